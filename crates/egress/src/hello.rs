//! The first message of a TLS client (RFC 8446, 4.1.2): which server it names.

/// How a connection begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// More bytes are needed to tell.
    Partial,
    NotTls,
    /// TLS to the server of this name, as it was written.
    Named(String),
    /// The same, but with an encrypted hello beside it, which may name another server, or be noise: only the server can tell.
    Veiled(String),
    /// TLS, but not to be let through: why, in one clause.
    Unfit(&'static str),
}

/// The longest first message that is waited for. Those with keys against quantum computers have about 2 KiB.
const LONGEST: usize = 16 << 10;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

const MALFORMED: Opening = Opening::Unfit("its TLS cannot be read");

pub(crate) fn read(bytes: &[u8]) -> Opening {
    match bytes.first() {
        None => return Opening::Partial,
        Some(&HANDSHAKE) => {}
        Some(_) => return Opening::NotTls,
    }
    // Bounds what is read again with every byte that comes.
    if bytes.len() > 2 * LONGEST {
        return MALFORMED;
    }
    // The message may lie in several records.
    let (mut rest, mut message) = (bytes, Vec::new());
    loop {
        match wanted(&message) {
            Some(length) if length > LONGEST => return MALFORMED,
            Some(length) if length == message.len() => return hello(&message).unwrap_or(MALFORMED),
            // Something is in the same record after it.
            Some(length) if length < message.len() => return MALFORMED,
            _ => {}
        }
        let Some((head, after)) = rest.split_at_checked(5) else { return Opening::Partial };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if head[0] != HANDSHAKE || head[1] != 3 || length == 0 || length > LONGEST {
            return MALFORMED;
        }
        let Some((record, after)) = after.split_at_checked(length) else { return Opening::Partial };
        message.extend_from_slice(record);
        rest = after;
    }
}

/// The length of the whole message, once its head is there.
fn wanted(message: &[u8]) -> Option<usize> {
    let head = message.get(..4)?;
    Some(4 + u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize)
}

/// `None`: malformed.
fn hello(message: &[u8]) -> Option<Opening> {
    let mut rest = Cursor(message);
    if rest.take(1)? != [CLIENT_HELLO] {
        return None;
    }
    // Length, version, random, session, cipher suites, compression.
    rest.take(3 + 2 + 32)?;
    let session = rest.byte()?;
    rest.take(usize::from(session))?;
    let suites = rest.pair()?;
    rest.take(usize::from(suites))?;
    let compressions = rest.byte()?;
    rest.take(usize::from(compressions))?;
    if rest.0.is_empty() {
        return Some(Opening::Unfit("its TLS names no server"));
    }
    let length = rest.pair()?;
    if usize::from(length) != rest.0.len() {
        return None;
    }
    let (mut name, mut veiled) = (None, false);
    while !rest.0.is_empty() {
        let kind = rest.pair()?;
        let length = rest.pair()?;
        let content = rest.take(usize::from(length))?;
        match kind {
            ENCRYPTED_CLIENT_HELLO => veiled = true,
            SERVER_NAME if name.is_some() => return None,
            SERVER_NAME => name = Some(server_name(content)?),
            _ => {}
        }
    }
    Some(match name {
        None => Opening::Unfit("its TLS names no server"),
        Some(name) if veiled => Opening::Veiled(name),
        Some(name) => Opening::Named(name),
    })
}

/// A list of exactly one name (RFC 6066, 3).
fn server_name(content: &[u8]) -> Option<String> {
    let mut rest = Cursor(content);
    let list = rest.pair()?;
    let kind = rest.byte()?;
    let length = rest.pair()?;
    let name = rest.take(usize::from(length))?;
    let whole = usize::from(list) + 2 == content.len() && rest.0.is_empty();
    (kind == 0 && whole && name.is_ascii()).then(|| String::from_utf8_lossy(name).into_owned())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn pair(&mut self) -> Option<u16> {
        self.take(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }
}

#[cfg(test)]
mod tests {
    use super::{Opening, read};

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
    }

    fn names(name: &[u8]) -> Vec<u8> {
        let entry = [&[0u8][..], &(name.len() as u16).to_be_bytes(), name].concat();
        extension(0, &[&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
    }

    /// A message in records of `size` bytes.
    fn records(extensions: &[Vec<u8>], size: usize) -> Vec<u8> {
        let extensions = extensions.concat();
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
        message.chunks(size).flat_map(record).collect()
    }

    #[test]
    fn the_name_is_found_however_the_message_is_cut() {
        for size in [1, 3, 40, 9000] {
            let bytes = records(&[extension(10, &[0, 0]), names(b"Files.example")], size);
            assert_eq!(read(&bytes), Opening::Named("Files.example".to_owned()));
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Opening::Partial, "{cut} of {size}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_can_be_read(cut in 0..200usize, noise in proptest::collection::vec(0..=255u8, 0..80)) {
            let mut bytes = records(&[extension(10, &[0, 0]), names(b"files.example")], 40);
            bytes.truncate(cut);
            bytes.extend(noise);
            read(&bytes);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let unfit = |bytes: &[u8]| matches!(read(bytes), Opening::Unfit(_));
        assert!(unfit(&records(&[], 9000)), "no name");
        assert!(unfit(&records(&[names(b"a.example"), names(b"b.example")], 9000)), "two names");
        let veiled = records(&[names(b"a.example"), extension(0xfe0d, &[0])], 9000);
        assert_eq!(read(&veiled), Opening::Veiled("a.example".to_owned()));
        let two = [0, 0, 1, b'a', 0, 0, 1, b'b'];
        assert!(unfit(&records(&[extension(0, &[&[0, 8][..], &two].concat())], 9000)), "two names in one list");
        let mut trailing = records(&[names(b"a.example")], 9000);
        trailing[4] += 1;
        trailing.push(0);
        assert!(unfit(&trailing), "something after the message");
        assert!(unfit(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), "another message");
        assert!(unfit(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]), "too long");
        assert!(unfit(&[22, 9, 9, 0, 4]), "no version");
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Opening::NotTls);
        assert_eq!(read(&[0x80, 0x2e, 1, 0, 2]), Opening::NotTls, "SSL 2");
    }
}
