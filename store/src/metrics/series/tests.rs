use super::*;

fn query(seconds: i64, step: Option<i64>) -> SeriesQuery {
    let from = DateTime::from_timestamp(1_800_000_007, 0).unwrap();
    SeriesQuery { from, to: from + TimeDelta::seconds(seconds), step: step.map(TimeDelta::seconds) }
}

#[test]
fn the_step_decides_what_a_series_is_made_from() {
    for (seconds, step, expected, resolution) in [
        (600, Some(5), 5, Resolution::Raw),
        (600, Some(59), 59, Resolution::Raw),
        (600, Some(60), 60, Resolution::Minute),
        (600, Some(61), 120, Resolution::Minute),
        (86_400, Some(3600), 3600, Resolution::Hour),
        (86_400, Some(3601), 7200, Resolution::Hour),
        (900, None, 5, Resolution::Raw),
        (86_400, None, 300, Resolution::Minute),
        (30 * 86_400, None, 10_800, Resolution::Hour),
    ] {
        let found = step_of(query(seconds, step)).unwrap();
        assert_eq!((found, finest_for(found)), (expected, resolution), "{seconds} s by {step:?}");
    }
}

#[test]
fn there_are_never_too_many_points() {
    for days in [1, 30, 700, 100_000] {
        let query = query(days * 86_400, Some(1));
        let step = step_of(query).unwrap();
        let (from, to) = aligned(query, step);
        assert!((to - from).num_seconds() / step <= MOST_POINTS, "{days} days by {step} s");
        assert!(from <= query.from && to >= query.to);
    }
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    assert_eq!(step_of(query(-5, None)).unwrap_err().kind(), &StoreErrorKind::Data);
    assert_eq!(step_of(query(0, Some(5))).unwrap_err().kind(), &StoreErrorKind::Data);
}
