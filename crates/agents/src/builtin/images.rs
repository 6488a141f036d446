//! Images that the model is shown.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::ports::model::Part;

/// The largest image, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// In one conversation, as each goes out with every later request.
pub(super) const MAX_IMAGES: usize = 6;

/// Ends the text of a result whose image is shown after the results.
pub(super) const FOLLOWS: &str = "[an image, shown after these results]";

/// The media type of a file that begins so, where it is an image that models understand.
pub(super) fn media(head: &[u8]) -> Option<&'static str> {
    if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if head.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else {
        None
    }
}

pub(super) fn image(media: &str, bytes: &[u8]) -> Part {
    Part::Image { media: media.to_owned(), base64: STANDARD.encode(bytes) }
}

/// An image that somebody else encoded: taken as it is where it is what it says, and small enough.
pub(super) fn encoded(media_type: &str, base64: &str) -> Option<Part> {
    let bytes = STANDARD.decode(base64).ok().filter(|bytes| bytes.len() <= MAX_BYTES)?;
    (media(&bytes) == Some(media_type)).then(|| image(media_type, &bytes))
}
