//! Group 6: which texts are UTF-8, whole and in pieces.

use super::Said::{Close, Custom, Refused, Reply};
use super::{Cut, ENDS, GOES_ON, TEXT_BEGINS, Table, bytes, check, fragments, ping, set};
use crate::protocol::raw::{TEXT, frame};

#[tokio::test]
async fn utf8_6_valid_and_in_pieces() {
    let mut table = Table::default();
    table.add("6.1.1", vec![frame(TEXT, b"")], &[Refused]);
    let empty = [frame(TEXT_BEGINS, b""), frame(GOES_ON, b""), frame(ENDS, b"")];
    table.add("6.1.2", empty.to_vec(), &[Refused]);
    let between = [frame(TEXT_BEGINS, b""), frame(GOES_ON, &ping(1, 40)), frame(ENDS, b"")];
    table.add("6.1.3", between.to_vec(), &[Reply(1)]);

    let words = "Hello-µ@ßöäüàá-UTF-8!!";
    let message = set(words.as_bytes());
    let custom = [Custom(words.to_owned())];
    table.add("6.2.1", vec![frame(TEXT, &message)], &custom);
    let boundary = message.windows(2).position(|two| two == "ß".as_bytes()).expect("a letter");
    let (first, last) = message.split_at(boundary);
    table.add("6.2.2", vec![frame(TEXT_BEGINS, first), frame(ENDS, last)], &custom);
    table.add("6.2.3", fragments(&message, 1), &custom);
    table.cut("6.2.4", Cut::Chops(1), vec![frame(TEXT, &message)], &custom);

    let wrong = bytes("ce ba e1 bd b9 cf 83 ce bc ce b5 ed a0 80 65 64 69 74 65 64");
    let not_utf8 = [Close(Some(1007))];
    table.add("6.3.1", vec![frame(TEXT, &set(&wrong))], &not_utf8);
    table.add("6.3.2", fragments(&set(&wrong), 1), &not_utf8);
    // Fails as soon as a fragment is wrong: the message never ends.
    for (number, wrong) in
        [("6.4.1", "ce ba e1 bd b9 cf 83 ce bc ce b5 f4 90 80 80"), ("6.4.2", "ce ba f4 90")]
    {
        table.add(number, vec![frame(TEXT_BEGINS, &bytes(wrong))], &not_utf8);
        table.add(number, fragments(&[bytes(wrong), b"edited".to_vec()].concat(), 1), &not_utf8);
    }
    check(table).await;
}

/// A text in hexadecimal, and whether it is UTF-8.
const UTF8: &[(&str, &str, bool)] = &[
    ("6.5.1", "ce ba e1 bd b9 cf 83 ce bc ce b5", true),
    ("6.6.1", "ce", false),
    ("6.6.2", "ce ba", true),
    ("6.6.3", "ce ba e1", false),
    ("6.6.4", "ce ba e1 bd", false),
    ("6.6.5", "ce ba e1 bd b9", true),
    ("6.6.6", "ce ba e1 bd b9 cf", false),
    ("6.6.7", "ce ba e1 bd b9 cf 83", true),
    ("6.6.8", "ce ba e1 bd b9 cf 83 ce", false),
    ("6.6.9", "ce ba e1 bd b9 cf 83 ce bc", true),
    ("6.6.10", "ce ba e1 bd b9 cf 83 ce bc ce", false),
    ("6.6.11", "ce ba e1 bd b9 cf 83 ce bc ce b5", true),
    ("6.7.1", "20", true),
    ("6.7.2", "c2 80", true),
    ("6.7.3", "e0 a0 80", true),
    ("6.7.4", "f0 90 80 80", true),
    ("6.8.1", "f8 88 80 80 80", false),
    ("6.8.2", "fc 84 80 80 80 80", false),
    ("6.9.1", "7f", true),
    ("6.9.2", "df bf", true),
    ("6.9.3", "ef bf bf", true),
    ("6.9.4", "f4 8f bf bf", true),
    ("6.10.1", "f7 bf bf bf", false),
    ("6.10.2", "fb bf bf bf bf", false),
    ("6.10.3", "fd bf bf bf bf bf", false),
    ("6.11.1", "ed 9f bf", true),
    ("6.11.2", "ee 80 80", true),
    ("6.11.3", "ef bf bd", true),
    ("6.11.4", "f4 8f bf bf", true),
    ("6.11.5", "f4 90 80 80", false),
    ("6.12.1", "80", false),
    ("6.12.2", "bf", false),
    ("6.12.3", "80 bf", false),
    ("6.12.4", "80 bf 80", false),
    ("6.12.5", "80 bf 80 bf", false),
    ("6.12.6", "80 bf 80 bf 80", false),
    ("6.12.7", "80 bf 80 bf 80 bf", false),
    ("6.12.8", "80 81 82 83 be", false),
    ("6.13.1", "c0 20 c1 20 df 20", false),
    ("6.13.2", "e0 20 e1 20 ef 20", false),
    ("6.13.3", "f0 20 f1 20 f7 20", false),
    ("6.13.4", "f8 20 f9 20 fb 20", false),
    ("6.13.5", "fc 20 fd 20", false),
    ("6.14.1", "c0", false),
    ("6.14.2", "e0 80", false),
    ("6.14.3", "f0 80 80", false),
    ("6.14.4", "f8 80 80 80", false),
    ("6.14.5", "fc 80 80 80 80", false),
    ("6.14.6", "df", false),
    ("6.14.7", "ef bf", false),
    ("6.14.8", "f7 bf bf", false),
    ("6.14.9", "fb bf bf bf", false),
    ("6.14.10", "fd bf bf bf bf", false),
    ("6.15.1", "c0 e0 80 f0 80 80 f8 80 80 80 fc 80 80 80 80 df ef bf f7 bf bf fb bf bf bf", false),
    ("6.16.1", "fe", false),
    ("6.16.2", "ff", false),
    ("6.16.3", "fe fe ff ff", false),
    ("6.17.1", "c0 af", false),
    ("6.17.2", "e0 80 af", false),
    ("6.17.3", "f0 80 80 af", false),
    ("6.17.4", "f8 80 80 80 af", false),
    ("6.17.5", "fc 80 80 80 80 af", false),
    ("6.18.1", "c1 bf", false),
    ("6.18.2", "e0 9f bf", false),
    ("6.18.3", "f0 8f bf bf", false),
    ("6.18.4", "f8 87 bf bf bf", false),
    ("6.18.5", "fc 83 bf bf bf bf", false),
    ("6.19.1", "c0 80", false),
    ("6.19.2", "e0 80 80", false),
    ("6.19.3", "f0 80 80 80", false),
    ("6.19.4", "f8 80 80 80 80", false),
    ("6.19.5", "fc 80 80 80 80 80", false),
    ("6.20.1", "ed a0 80", false),
    ("6.20.2", "ed ad bf", false),
    ("6.20.3", "ed ae 80", false),
    ("6.20.4", "ed af bf", false),
    ("6.20.5", "ed b0 80", false),
    ("6.20.6", "ed be 80", false),
    ("6.20.7", "ed bf bf", false),
    ("6.21.1", "ed a0 80 ed b0 80", false),
    ("6.21.2", "ed a0 80 ed bf bf", false),
    ("6.21.3", "ed ad bf ed b0 80", false),
    ("6.21.4", "ed ad bf ed bf bf", false),
    ("6.21.5", "ed ae 80 ed b0 80", false),
    ("6.21.6", "ed ae 80 ed bf bf", false),
    ("6.21.7", "ed af bf ed b0 80", false),
    ("6.21.8", "ed af bf ed bf bf", false),
    ("6.22.1", "ef bf be", true),
    ("6.22.2", "ef bf bf", true),
    ("6.23.1", "ef bf b9", true),
    ("6.23.2", "ef bf ba", true),
    ("6.23.3", "ef bf bb", true),
    ("6.23.4", "ef bf bc", true),
    ("6.23.5", "ef bf bd", true),
    ("6.23.6", "ef bf be", true),
    ("6.23.7", "ef bf bf", true),
];

#[tokio::test]
async fn utf8_6_every_kind_of_sequence() {
    let mut rows: Vec<_> = UTF8
        .iter()
        .map(|(number, hex, is_valid)| ((*number).to_owned(), bytes(hex), *is_valid))
        .collect();
    // 6.22.3 to 6.22.34: the last two characters of each other plane, which are never assigned.
    let last_two =
        (1..=16_u32).flat_map(|plane| [plane * 0x1_0000 + 0xfffe, plane * 0x1_0000 + 0xffff]);
    for (n, code) in (3..).zip(last_two) {
        let character = char::from_u32(code).expect("a character");
        rows.push((format!("6.22.{n}"), character.to_string().into_bytes(), true));
    }
    assert_eq!(rows.iter().filter(|(number, ..)| number.starts_with("6.22.")).count(), 34);
    let mut table = Table::default();
    for (number, custom, is_valid) in rows {
        let expected = match String::from_utf8(custom.clone()) {
            Ok(text) if is_valid => [Custom(text)],
            Err(_) if !is_valid => [Close(Some(1007))],
            other => panic!("{number}: {other:?}"),
        };
        table.add(number.clone(), vec![frame(TEXT, &set(&custom))], &expected);
        table.add(number, fragments(&set(&custom), 1), &expected);
    }
    // 6.7.1 in the suite is a NUL, which is UTF-8, but JSON needs an escape for it.
    table.add("6.7.1", vec![frame(TEXT, &set(b"\0"))], &[Refused]);
    check(table).await;
}
