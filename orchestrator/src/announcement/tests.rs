use super::*;
use crate::sample;

#[test]
fn the_same_record_leads_to_the_same_event_and_another_state_to_another() {
    let record = sample::record("a");
    assert_eq!(event_id(&record), event_id(&record.clone()));
    let facts_changed = HostRecord {
        facts: pinacle_bus::contract::host::HostFacts { cpu_count: 64, ..sample::facts() },
        ..record.clone()
    };
    assert_eq!(event_id(&record), event_id(&facts_changed));
    let later = HostRecord { state_since: following(record.state_since, record.state_since), ..record.clone() };
    let online = HostRecord { state: HostState::Online, cause: StateCause::Heartbeat, ..record.clone() };
    assert_ne!(event_id(&record), event_id(&later));
    assert_ne!(event_id(&record), event_id(&online));
}

#[test]
fn a_change_tells_what_it_was_what_it_is_and_why() {
    let mut record = sample::record("a");
    assert_eq!(event(&record, HostState::Unknown).unwrap().what, HOST_ADMITTED);
    record.state = HostState::Offline;
    record.cause = StateCause::Silent;
    record.evidence.heartbeat_age_ms = Some(12_512);
    let event = event(&record, HostState::Degraded).unwrap();
    let change: HostStateChange = serde_json::from_value(event.detail).unwrap();
    assert_eq!((change.from, change.to, change.cause), (HostState::Degraded, HostState::Offline, StateCause::Silent));
    assert_eq!(event.message, "host a is offline: no heartbeat, the last one is 12.5 s old");
    assert_eq!(subject(&record).to_string(), format!("pinacle.v1.evt.host.{}.state_changed", record.host_id));
}

#[test]
fn time_goes_on_even_when_the_wall_clock_goes_back() {
    let before = Timestamp::from_millis(5000).unwrap();
    assert_eq!(following(before, Timestamp::from_millis(1000).unwrap()).as_millis(), 5001);
    assert_eq!(following(before, Timestamp::from_millis(9000).unwrap()).as_millis(), 9000);
}
