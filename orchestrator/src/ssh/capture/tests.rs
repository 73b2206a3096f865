use proptest::prelude::*;

use super::*;

fn secrets(values: &[&str]) -> Vec<Secret> {
    values.iter().map(|value| Secret::new(*value)).collect()
}

fn captured(chunks: &[&[u8]], masks: &[&str]) -> Captured {
    let mut capture = Capture::new(&secrets(masks));
    for chunk in chunks {
        capture.push(chunk);
    }
    capture.finish()
}

#[test]
fn a_secret_that_straddles_chunks_is_masked() {
    let whole = b"token=s3cret-value end s3cret";
    for first in 0..whole.len() {
        for second in first..whole.len() {
            let chunks = [&whole[..first], &whole[first..second], &whole[second..]];
            let text = captured(&chunks, &["s3cret-value"]).text().into_owned();
            assert_eq!(text, "token=*** end s3cret");
        }
    }
}

#[test]
fn what_is_told_while_output_comes_holds_no_beginning_of_a_secret() {
    let mut capture = Capture::new(&secrets(&["hunter2"]));
    capture.push(b"password hunte");
    assert_eq!(capture.snapshot().text(), "password ");
    capture.push(b"r3");
    assert_eq!(capture.finish().text(), "password hunter3");
}

#[test]
fn of_two_secrets_the_longer_goes_first() {
    for cut in 0..9 {
        let whole = b"xabcdyabz";
        let text = captured(&[&whole[..cut], &whole[cut..]], &["ab", "abcd", ""]).text().into_owned();
        assert_eq!(text, "x***y***z");
    }
    assert_eq!(captured(&[b"abc"], &["ab", "abcd"]).text(), "***c");
}

#[test]
fn of_much_output_the_ends_are_kept_and_the_cut_says_how_much_is_missing() {
    let mut capture = Capture::new(&[]);
    capture.push(b"first line\n");
    for _ in 0..160 {
        capture.push(&[b'x'; 65536]);
    }
    capture.push(b"\nlast line");
    let captured = capture.finish();
    let text = captured.text();
    let total = 160 * 65536 + 21;
    assert_eq!(captured.left_out(), total - 2 * KEPT_HALF as u64);
    assert!(text.contains(&format!("\n[{} bytes left out]\n", captured.left_out())));
    assert!(text.starts_with("first line\n") && text.ends_with("\nlast line"));
    assert!(captured.bytes().len() < 2 * KEPT_HALF + 64);
    assert_eq!(capture.seen(), total);
}

#[test]
fn a_record_holds_what_was_no_text() {
    let text = String::from_utf8_lossy(b"a\0b\xff\x1b[0m").into_owned();
    assert_eq!(for_record(&text, 1000), "a\u{fffd}b\u{fffd}\u{1b}[0m");
}

proptest! {
    #[test]
    fn masking_does_not_depend_on_how_output_is_cut(
        text in "[abc]{0,60}", cuts in prop::collection::vec(0usize..60, 0..6),
        masks in prop::collection::vec("[abc]{1,4}", 1..4)
    ) {
        let masks: Vec<&str> = masks.iter().map(String::as_str).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            chunks.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        let at_once = captured(&[text.as_bytes()], &masks);
        prop_assert_eq!(captured(&chunks, &masks), at_once.clone());
        prop_assert!(masks.iter().all(|mask| !at_once.text().contains(mask)));
    }

    #[test]
    fn a_record_never_exceeds_its_bound(text in ".{0,400}", most in 64usize..300) {
        let cut = for_record(&text, most);
        prop_assert!(serde_json::to_string(&cut).unwrap().len() <= most + 2);
        prop_assert!(!cut.contains('\0'));
    }
}
