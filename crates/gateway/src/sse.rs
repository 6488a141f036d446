//! Server-sent events, as far as model providers use them: the `data` of each event; its JSON says of what kind it is.

/// More than any provider sends in one event; a stream without an end of line must not fill the memory.
const MOST_BYTES: usize = 16 << 20;

/// Takes the bytes of a stream in pieces of any size and gives the data of whole events.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// What came after the last end of line.
    rest: Vec<u8>,
    /// The data of the event that is not over yet. A second `data` line continues the first.
    data: Option<String>,
}

/// The stream is no stream of events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoEvents;

impl Events {
    /// Takes a piece; calls `event` with the data of each event that it completes.
    pub fn take(&mut self, piece: &[u8], mut event: impl FnMut(&str)) -> Result<(), NoEvents> {
        let mut held = std::mem::take(&mut self.rest);
        let joined = if held.is_empty() {
            piece
        } else {
            held.extend_from_slice(piece);
            &held
        };
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', joined) {
            self.line(&joined[start..end], &mut event)?;
            start = end + 1;
        }
        let rest = &joined[start..];
        if rest.len() > MOST_BYTES || self.data.as_ref().is_some_and(|data| data.len() > MOST_BYTES) {
            return Err(NoEvents);
        }
        self.rest = rest.to_vec();
        Ok(())
    }

    fn line(&mut self, line: &[u8], event: &mut impl FnMut(&str)) -> Result<(), NoEvents> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if let Some(data) = self.data.take() {
                event(&data);
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            let data = str::from_utf8(data.strip_prefix(b" ").unwrap_or(data)).map_err(|_| NoEvents)?;
            match &mut self.data {
                Some(before) => {
                    before.push('\n');
                    before.push_str(data);
                }
                None => self.data = Some(data.to_owned()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_wherever_the_stream_is_cut() {
        let stream = "event: a\ndata: {\"x\":\"\u{e4}\"}\n\n: ping\n\ndata:one\r\ndata: two\r\n\r\nid: 3\n\ndata: [DONE]\n\ndata: cut";
        for size in 1..=stream.len() {
            let mut events = Events::default();
            let mut seen = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                events.take(piece, |data| seen.push(data.to_owned())).unwrap();
            }
            assert_eq!(seen, ["{\"x\":\"\u{e4}\"}", "one\ntwo", "[DONE]"], "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_stream_of_events_is_refused() {
        let mut events = Events::default();
        assert_eq!(events.take(b"data: \xff\n\n", |_| ()), Err(NoEvents));
        let mut events = Events::default();
        let piece = vec![b'a'; 1 << 20];
        assert!((0..40).any(|_| events.take(&piece, |_| ()) == Err(NoEvents)));
    }
}
