//! A person's terminal over an upgraded connection: the request, and the frames that follow the 101.

use domain::ports::{sandbox::WindowSize, workspace::ChangedPath};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Problem;

/// The `Upgrade` of `POST /tasks/{id}/attach`.
pub const TERMINAL_PROTOCOL: &str = "overnight-terminal";
/// The `Upgrade` of `POST /tasks/{id}/preview`: bytes as they are.
pub const BYTES_PROTOCOL: &str = "overnight-bytes";

/// `POST /tasks/{id}/attach` → 101, then [`Frame`]s
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attach {
    /// Absent: the one under review, or the only one that works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Empty: a login shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// The value of `TERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// Absent: 24 by 80 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

impl From<Size> for WindowSize {
    fn from(Size { rows, columns }: Size) -> Self {
        Self { rows, columns }
    }
}

/// `POST /tasks/{id}/preview` → 101, then the bytes of one connection
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preview {
    /// Absent: the one under review, or the only one that works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Absent: that of the first service that names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// How it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The command's exit code; `None` when it did not end by itself.
    pub code: Option<i32>,
    /// What changed since the person came; at most 1,000 paths.
    pub changed: Vec<ChangedPath>,
    pub changed_total: usize,
    /// What becomes of it, in one line.
    pub said: String,
}

/// What goes over the connection: one byte for the kind, four for the length of the content (big-endian), the content.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// 0. From the client: typed. From the server: printed.
    Data(Vec<u8>),
    /// 1, from the client: rows and columns, two bytes each, big-endian.
    Resize(Size),
    /// 2, from the client: nothing more will be typed.
    EndOfInput,
    /// 3, from the server, first: what the person should know, as JSON. One sentence each.
    Notes(Vec<String>),
    /// 4, from the server, last: JSON.
    Left(Box<Left>),
    /// 5, from the server, last: JSON. What was done could not be kept, or not be told of.
    Problem(Box<Problem>),
}

/// The length of kind and length.
pub const FRAME_HEAD: usize = 5;
/// The most a frame's content may hold, in bytes.
const MAX_CONTENT: usize = 4 << 20;

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Data(bytes) => framed(0, bytes),
            Self::Resize(Size { rows, columns }) => framed(1, &[rows.to_be_bytes(), columns.to_be_bytes()].concat()),
            Self::EndOfInput => framed(2, &[]),
            Self::Notes(notes) => framed(3, &json(notes)),
            Self::Left(left) => framed(4, &json(left)),
            Self::Problem(problem) => framed(5, &json(problem)),
        }
    }

    /// The kind, and how many bytes of content follow. Errors: what is wrong with it.
    pub fn head(head: [u8; FRAME_HEAD]) -> Result<(u8, usize), String> {
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_CONTENT {
            return Err(format!("a frame of {length} bytes is too long"));
        }
        Ok((kind, length))
    }

    /// Errors: what is wrong with it.
    pub fn decode(kind: u8, content: Vec<u8>) -> Result<Self, String> {
        fn read<T: DeserializeOwned>(content: &[u8]) -> Result<T, String> {
            serde_json::from_slice(content).map_err(|error| format!("a frame cannot be read: {error}"))
        }
        match (kind, content.as_slice()) {
            (0, _) => Ok(Self::Data(content)),
            (1, &[r0, r1, c0, c1]) => {
                Ok(Self::Resize(Size { rows: u16::from_be_bytes([r0, r1]), columns: u16::from_be_bytes([c0, c1]) }))
            }
            (2, []) => Ok(Self::EndOfInput),
            (3, json) => read(json).map(Self::Notes),
            (4, json) => read(json).map(Self::Left),
            (5, json) => read(json).map(Self::Problem),
            (kind, content) => Err(format!("a frame of kind {kind} with {} bytes is not known", content.len())),
        }
    }
}

fn framed(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&[kind], length.to_be_bytes().as_slice(), content].concat()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Texts and numbers always go into JSON.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Frame, Left, Size};

    #[test]
    fn frames_are_read_as_they_were_written() {
        let left = Left { code: Some(3), changed: Vec::new(), changed_total: 0, said: "kept".to_owned() };
        for frame in [
            Frame::Data(b"\x00\xff\r\n".to_vec()),
            Frame::Resize(Size { rows: 50, columns: 300 }),
            Frame::EndOfInput,
            Frame::Notes(vec!["the agent is at work".to_owned()]),
            Frame::Left(Box::new(left)),
        ] {
            let bytes = frame.encode();
            let (head, content) = bytes.split_first_chunk().unwrap();
            let (kind, length) = Frame::head(*head).unwrap();
            assert_eq!(length, content.len());
            assert_eq!(Frame::decode(kind, content.to_vec()).unwrap(), frame);
        }
        assert!(Frame::head([0, 0xff, 0, 0, 0]).unwrap_err().contains("too long"));
        assert!(Frame::decode(1, vec![1]).is_err() && Frame::decode(9, Vec::new()).is_err());
    }
}
