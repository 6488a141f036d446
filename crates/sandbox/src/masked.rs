//! Files of a workspace as someone outside may see them: with the values of secrets masked.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use domain::{
    Fault,
    ports::sandbox::{Entry, Files},
    redact::Redactor,
};

/// The most of a file that is looked at for values before it is overwritten.
const MOST: usize = 64 << 20;

/// A value becomes its secret's name and stars, of the same length and with the same lines, so that offsets stay what they are.
#[derive(Debug)]
pub struct Masked<F> {
    pub files: Arc<F>,
    pub redactor: Arc<Redactor>,
}

impl<F: Files> Files for Masked<F> {
    fn read(&self, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault> {
        // As far as a value may reach into what is asked for.
        let reach = self.redactor.longest().saturating_sub(1);
        let before = usize::try_from(offset).map_or(reach, |offset| offset.min(reach));
        let most = max.saturating_add(before).saturating_add(reach);
        let (bytes, length) = self.files.read(path, offset - before as u64, most)?;
        let asked = before.min(bytes.len())..before.saturating_add(max).min(bytes.len());
        Ok((self.mask(&bytes, asked), length))
    }

    fn write(&self, path: &str, content: &[u8]) -> Result<(), Fault> {
        // Whether there is one to overwrite, and all else that is wrong with it, the writing tells.
        if let Ok((old, _)) = self.files.read(path, 0, MOST)
            && let Some((_, name)) = self.redactor.found(&old).next()
        {
            return Err(Fault::input(format!(
                "{path} holds the value of {name}, which is not shown and would be lost"
            ))
            .hint("change the file by a command (sed, say), or remove it by one first"));
        }
        self.files.write(path, content)
    }

    fn list(&self, directory: &str) -> Result<Vec<Entry>, Fault> {
        self.files.list(directory)
    }
}

impl<F> Masked<F> {
    fn mask(&self, bytes: &Bytes, asked: Range<usize>) -> Bytes {
        let mut masked: Option<Vec<u8>> = None;
        for (place, name) in self.redactor.found(bytes) {
            let masked = masked.get_or_insert_with(|| bytes.to_vec());
            let told = format!("[{name} redacted]");
            let told = told.bytes().take(if told.len() <= place.len() { told.len() } else { 0 });
            for (byte, star) in masked[place].iter_mut().zip(told.chain(std::iter::repeat(b'*'))) {
                if *byte != b'\n' {
                    *byte = star;
                }
            }
        }
        masked.map_or_else(|| bytes.clone(), Bytes::from).slice(asked)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct One(Mutex<Vec<u8>>);

    impl Files for One {
        fn read(&self, _: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault> {
            let content = self.0.lock().unwrap();
            let from = usize::try_from(offset).unwrap().min(content.len());
            let part = &content[from..from.saturating_add(max).min(content.len())];
            Ok((Bytes::copy_from_slice(part), content.len() as u64))
        }

        fn write(&self, _: &str, content: &[u8]) -> Result<(), Fault> {
            *self.0.lock().unwrap() = content.to_vec();
            Ok(())
        }

        fn list(&self, _: &str) -> Result<Vec<Entry>, Fault> {
            Ok(Vec::new())
        }
    }

    const VALUE: &str = "hunter2-hunter2-hunter2";

    fn masked(content: &str) -> Masked<One> {
        let redactor = Redactor::new([("TOKEN", VALUE), ("A_LONG_NAME", "first\nsecond")]);
        Masked { files: Arc::new(One(Mutex::new(content.into()))), redactor: Arc::new(redactor) }
    }

    #[test]
    fn any_window_shows_the_same_masked_file() {
        let content = format!("one\ntoken={VALUE}\nfirst\nsecond\nlast");
        let files = masked(&content);
        let (whole, length) = files.read("f", 0, usize::MAX).unwrap();
        assert_eq!(&whole[..], b"one\ntoken=[TOKEN redacted]*******\n*****\n******\nlast");
        assert_eq!(length, content.len() as u64);
        for from in 0..=content.len() + 2 {
            for most in 0..content.len() {
                let (part, _) = files.read("f", from as u64, most).unwrap();
                let start = from.min(whole.len());
                assert_eq!(part, whole.slice(start..(start + most).min(whole.len())), "{from} {most}");
            }
        }
    }

    #[test]
    fn a_value_that_was_not_shown_is_not_overwritten() {
        let files = masked(&format!("token={VALUE}"));
        let fault = files.write("f", b"token=[TOKEN redacted]").unwrap_err();
        assert!(fault.what.contains("TOKEN") && fault.hint.is_some(), "{fault}");
        let files = masked("plain");
        files.write("f", b"other").unwrap();
        assert_eq!(files.read("f", 0, 9).unwrap().0, &b"other"[..]);
    }
}
