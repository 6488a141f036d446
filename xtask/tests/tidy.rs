//! The house is tidy.

#[test]
fn the_house_is_tidy() {
    let complaints = xtask::tidy::check().unwrap();
    let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{} complaints:\n{}", told.len(), told.join("\n"));
}
