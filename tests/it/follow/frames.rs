//! The parser of event streams.

use presence_hub::follow::{Frames, NotEvents, Part};
use presence_hub::store::Cursor;

const STREAM: &str = ":\n\nid: 7\n\nid: 8\ndata: {\"a\":\"é: b\"}\n\n:\n\nid: 9\nevent: damaged\n\
                      data: {\"damaged\":true}\n\nid: 10\nda";

#[test]
fn frames_are_the_same_however_the_stream_is_cut() {
    let expected = Part {
        lines: "{\"a\":\"é: b\"}\n{\"damaged\":true}\n".as_bytes().to_vec(),
        cursor: Some(Cursor(9)),
        events: 2,
    };
    for size in 1..=STREAM.len() {
        let mut frames = Frames::default();
        let mut all = Part::default();
        for bytes in STREAM.as_bytes().chunks(size) {
            let part = frames.push(bytes).expect("events");
            all.lines.extend(part.lines);
            all.events += part.events;
            all.cursor = part.cursor.or(all.cursor);
        }
        assert_eq!(all, expected, "in parts of {size} bytes");
    }
}

#[test]
fn other_streams_are_refused() {
    for other in ["data: {}\n\n", "id: x\ndata: {}\n\n", "id: 1\ndata: {\ndata: }\n\n"] {
        assert_eq!(Frames::default().push(other.as_bytes()), Err(NotEvents), "{other}");
    }
    assert_eq!(Frames::default().push(b"id: \xff\n\n"), Err(NotEvents));
    let mut frames = Frames::default();
    let endless = vec![b'x'; 1024 * 1024];
    assert!((0..16).any(|_| frames.push(&endless).is_err()), "an unfinished event is bounded");
}
