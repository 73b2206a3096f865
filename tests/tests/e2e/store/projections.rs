//! Projections: the newest stays whatever the order, twice is once, and people see what is theirs.

use chrono::TimeDelta;
use pinacle_store::{
    Applied, Cursor, DeadLetterRow, Direction, EventFilter, ExecFilter, ExecRow, HostEventRow, HostFilter, Mark,
    OperationFilter, OperationRow, OperationStepRow, PageRequest, PodEventRow, PodFilter, Replaced, RequestRow, Scope,
    StoreErrorKind,
};
use serde_json::json;

use super::fixture::{Stage, host_id, host_record, past_hour, pod_id, pod_record};

fn ann() -> Scope {
    Scope::of("ann")
}

fn host_event(sequence: i64) -> HostEventRow {
    HostEventRow {
        event_id: format!("evt_{sequence}"),
        host_id: "host_1".into(),
        at: past_hour() + TimeDelta::seconds(sequence),
        what: "state_changed".into(),
        message: "one is online".into(),
        detail: json!({"to": "online"}),
        stream_sequence: sequence,
    }
}

fn pod_event(pod_id: &str, sequence: i64) -> PodEventRow {
    PodEventRow {
        event_id: format!("evt_{sequence}"),
        pod_id: pod_id.into(),
        at: past_hour() + TimeDelta::seconds(sequence),
        what: "created".into(),
        message: "a pod was created".into(),
        detail: json!(null),
        stream_sequence: sequence,
    }
}

fn operation(progress: &str, steps: i32, sequence: i64) -> (OperationRow, Vec<OperationStepRow>) {
    let row = OperationRow {
        operation_id: "op_1".into(),
        request_id: "req_1".into(),
        kind: "pod".into(),
        target_id: "pod_ann".into(),
        verb: "create".into(),
        progress: progress.into(),
        cause: None,
        started_at: past_hour(),
        deadline_at: past_hour(),
        ended_at: None,
        stream_sequence: sequence,
        requested_by: "ann".into(),
        host_id: Some("host_1".into()),
        takeovers: 1,
    };
    let step = |position| OperationStepRow {
        operation_id: "op_1".into(),
        position,
        label: format!("step_{position}"),
        progress: progress.into(),
        cause: None,
        started_at: None,
        ended_at: None,
        stream_sequence: sequence,
        note: Some("copying the image".into()),
    };
    (row, (0..steps).map(step).collect())
}

fn exec(exit_code: Option<i32>, sequence: i64) -> ExecRow {
    ExecRow {
        operation_id: "op_1".into(),
        sequence: 1,
        host_id: "host_1".into(),
        pod_id: Some("pod_ann".into()),
        step: "create".into(),
        label: "create the container".into(),
        command: "docker run".into(),
        container_command: None,
        stdout: if exit_code.is_some() { "done".into() } else { String::new() },
        stderr: String::new(),
        exit_code,
        started_at: past_hour(),
        duration_ms: exit_code.map(|_| 12),
        stream_sequence: sequence,
    }
}

fn dead_letter(sequence: i64) -> DeadLetterRow {
    DeadLetterRow {
        dead_letter_id: format!("dead_{sequence}"),
        at: past_hour(),
        stream: "METRICS".into(),
        consumer: "ingest-metrics".into(),
        stream_sequence: sequence * 10,
        subject: "pinacle.v1.x".into(),
        schema: 1,
        reason: "broken".into(),
        tries: 10,
        payload: vec![0, 255, 1],
        payload_bytes: 3,
        resent_at: None,
        dropped_at: None,
        dead_sequence: sequence,
    }
}

#[tokio::test]
async fn of_live_records_the_newest_stays_whatever_the_order() {
    let stage = Stage::new().await;
    let (host, pod) = (host_id(), pod_id());
    for (sequence, applied) in [(5, Applied::Written), (3, Applied::Stale), (5, Applied::Stale), (8, Applied::Written)]
    {
        let name = format!("named-{sequence}");
        assert_eq!(stage.database.host_project(host_record(&host, &name, sequence)).await.unwrap(), applied);
        let mut record = pod_record(&pod, "ann", sequence);
        record.name = name;
        assert_eq!(stage.database.pod_project(record).await.unwrap(), applied);
    }
    let found = stage.database.host_get(&Scope::All, &host).await.unwrap();
    assert_eq!(found, host_record(&host, "named-8", 8));
    assert_eq!(stage.database.pod_get(&ann(), "named-8").await.unwrap().pod_id, pod);
}

#[tokio::test]
async fn a_removed_record_is_not_brought_back_by_an_older_one() {
    let stage = Stage::new().await;
    let (host, pod) = (host_id(), pod_id());
    let gone = |error: pinacle_store::StoreError| assert_eq!(error.kind(), &StoreErrorKind::NotFound);
    for before in [true, false] {
        let (host, pod) = if before { (host.clone(), pod.clone()) } else { (host_id(), pod_id()) };
        if before {
            stage.database.host_project(host_record(&host, "one", 1)).await.unwrap();
            stage.database.pod_project(pod_record(&pod, "ann", 1)).await.unwrap();
        }
        assert_eq!(stage.database.host_delete(&host, past_hour(), 4).await.unwrap(), Applied::Written);
        assert_eq!(stage.database.pod_delete(&pod, past_hour(), 4).await.unwrap(), Applied::Written);
        assert_eq!(stage.database.host_project(host_record(&host, "one", 2)).await.unwrap(), Applied::Stale);
        assert_eq!(stage.database.pod_project(pod_record(&pod, "ann", 2)).await.unwrap(), Applied::Stale);
        gone(stage.database.host_get(&Scope::All, &host).await.unwrap_err());
        gone(stage.database.pod_get(&Scope::All, &pod).await.unwrap_err());
    }
    let (filter, page) = (HostFilter::default(), PageRequest::first(10));
    assert!(stage.database.host_list(&Scope::All, &filter, &page).await.unwrap().items.is_empty());
    // Made anew afterwards it is there.
    stage.database.host_project(host_record(&host, "anew", 9)).await.unwrap();
    assert_eq!(stage.database.host_get(&Scope::All, "anew").await.unwrap().host_id, host);
}

#[tokio::test]
async fn an_operation_keeps_the_steps_of_its_newest_message() {
    let stage = Stage::new().await;
    stage.database.pod_project(pod_record("pod_ann", "ann", 1)).await.unwrap();
    for (progress, steps, sequence, applied) in [
        ("running", 2, 10, Applied::Written),
        ("waiting", 1, 9, Applied::Stale),
        ("succeeded", 3, 12, Applied::Written),
        ("running", 2, 10, Applied::Stale),
    ] {
        let (row, steps) = operation(progress, steps, sequence);
        assert_eq!(stage.database.operation_project(row, steps).await.unwrap(), applied, "{sequence}");
    }
    assert_eq!(stage.database.operation_get(&ann(), "op_1").await.unwrap(), operation("succeeded", 3, 12));
    let bob = Scope::of("bob");
    assert_eq!(stage.database.operation_get(&bob, "op_1").await.unwrap_err().kind(), &StoreErrorKind::NotFound);
    let page = PageRequest::first(5);
    let of = |pod: &str| OperationFilter { target_id: Some(pod.into()), ..OperationFilter::default() };
    assert_eq!(stage.database.operation_list(&ann(), &of("pod_ann"), &page).await.unwrap().items.len(), 1);
    assert_eq!(stage.database.operation_list(&bob, &OperationFilter::default(), &page).await.unwrap().items.len(), 0);
    // Messages about one operation at once.
    let calls = (20..40).map(|sequence| {
        let (row, steps) = operation("running", i32::try_from(sequence % 5).unwrap(), sequence);
        stage.database.operation_project(row, steps)
    });
    futures_util::future::try_join_all(calls).await.unwrap();
    assert_eq!(stage.database.operation_get(&Scope::All, "op_1").await.unwrap(), operation("running", 4, 39));
}

#[tokio::test]
async fn a_commands_end_is_not_undone_by_its_beginning() {
    let stage = Stage::new().await;
    stage.database.pod_project(pod_record("pod_ann", "ann", 1)).await.unwrap();
    assert_eq!(stage.database.exec_project(exec(None, 1)).await.unwrap(), Applied::Written);
    assert_eq!(stage.database.exec_project(exec(Some(0), 2)).await.unwrap(), Applied::Written);
    assert_eq!(stage.database.exec_project(exec(None, 1)).await.unwrap(), Applied::Stale);
    let page = PageRequest::first(5);
    let by_operation = ExecFilter { operation_id: Some("op_1".into()), ..ExecFilter::default() };
    assert_eq!(stage.database.exec_list(&ann(), &by_operation, &page).await.unwrap().items, [exec(Some(0), 2)]);
    let bob = Scope::of("bob");
    assert!(stage.database.exec_list(&bob, &by_operation, &page).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn commands_are_found_by_pod_host_and_what_ran_inside_page_by_page() {
    let stage = Stage::new().await;
    stage.database.pod_project(pod_record("pod_ann", "ann", 1)).await.unwrap();
    for (number, (operation, host, inside)) in
        [("op_1", "host_1", false), ("op_2", "host_1", true), ("op_3", "host_2", true)].into_iter().enumerate()
    {
        for sequence in [1, 2] {
            let row = ExecRow {
                operation_id: operation.into(),
                host_id: host.into(),
                sequence,
                container_command: inside.then(|| "true".to_owned()),
                ..exec(Some(0), i64::try_from(number).unwrap() * 10 + sequence)
            };
            assert_eq!(stage.database.exec_project(row).await.unwrap(), Applied::Written);
        }
    }
    let all = async |filter: ExecFilter| {
        let mut page = PageRequest::first(1);
        let mut found = Vec::new();
        loop {
            let part = stage.database.exec_list(&ann(), &filter, &page).await.unwrap();
            found.extend(part.items.into_iter().map(|row| (row.operation_id, row.sequence)));
            let Some(next) = part.next else { return found };
            page.after = Some(next);
        }
    };
    let of = |pairs: &[(&str, i64)]| pairs.iter().map(|(id, at)| ((*id).to_owned(), *at)).collect::<Vec<_>>();
    let pod = ExecFilter { pod_id: Some("pod_ann".into()), ..ExecFilter::default() };
    let expected = [("op_1", 1), ("op_1", 2), ("op_2", 1), ("op_2", 2), ("op_3", 1), ("op_3", 2)];
    assert_eq!(all(pod.clone()).await, of(&expected));
    assert_eq!(all(ExecFilter { container_only: true, ..pod.clone() }).await, of(&expected[2..]));
    assert_eq!(all(ExecFilter { host_id: Some("host_1".into()), ..pod }).await, of(&expected[..4]));
}

#[tokio::test]
async fn requests_and_events_are_written_once() {
    let stage = Stage::new().await;
    let request = RequestRow {
        request_id: "req_1".into(),
        operation_id: "op_1".into(),
        kind: "pod".into(),
        target_id: "pod_ann".into(),
        verb: "create".into(),
        requested_by: "ann".into(),
        requested_at: past_hour(),
        deadline_at: None,
        parameters: json!({"tier": "dev.small"}),
        stream_sequence: 4,
    };
    for applied in [Applied::Written, Applied::Stale] {
        assert_eq!(stage.database.request_project(request.clone()).await.unwrap(), applied);
        assert_eq!(stage.database.host_event_project(host_event(1)).await.unwrap(), applied);
        assert_eq!(stage.database.pod_event_project(pod_event("pod_ann", 2)).await.unwrap(), applied);
    }
    assert_eq!(stage.database.request_get(&ann(), "req_1").await.unwrap(), request);
    let bob = Scope::of("bob");
    assert_eq!(stage.database.request_get(&bob, "req_1").await.unwrap_err().kind(), &StoreErrorKind::NotFound);
    assert_eq!(stage.database.request_list(&bob, None, &PageRequest::first(5)).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn a_dead_letter_is_one_for_each_message_and_consumer() {
    let stage = Stage::new().await;
    let mark = |id, mark, seconds| stage.database.dead_letter_mark(id, mark, past_hour() + TimeDelta::seconds(seconds));
    assert_eq!(mark("dead_1", Mark::Resent, 1).await.unwrap(), Applied::Missing);
    assert_eq!(stage.database.dead_letter_project(dead_letter(1)).await.unwrap(), Applied::Written);
    assert_eq!(stage.database.dead_letter_project(dead_letter(1)).await.unwrap(), Applied::Stale);
    // The same message given up again, under another id.
    let again = DeadLetterRow { dead_letter_id: "dead_9".into(), dead_sequence: 9, ..dead_letter(1) };
    assert_eq!(stage.database.dead_letter_project(again).await.unwrap(), Applied::Stale);
    stage.database.dead_letter_project(dead_letter(2)).await.unwrap();
    for seconds in [7, 5, 9] {
        assert_eq!(mark("dead_1", Mark::Resent, seconds).await.unwrap(), Applied::Written);
    }
    let found = stage.database.dead_letter_get(&Scope::All, "dead_1").await.unwrap();
    let resent_at = Some(past_hour() + TimeDelta::seconds(5));
    assert_eq!(found, DeadLetterRow { resent_at, ..dead_letter(1) });
    let page = PageRequest::first(5);
    assert_eq!(stage.database.dead_letter_list(&Scope::All, true, &page).await.unwrap().items, [dead_letter(2)]);
    assert_eq!(stage.database.dead_letter_list(&Scope::All, false, &page).await.unwrap().items.len(), 2);
    mark("dead_2", Mark::Dropped, 1).await.unwrap();
    assert!(stage.database.dead_letter_list(&Scope::All, true, &page).await.unwrap().items.is_empty());
    // Nobody but an admin sees what others sent.
    assert!(stage.database.dead_letter_list(&ann(), false, &page).await.unwrap().items.is_empty());
    assert_eq!(stage.database.dead_letter_get(&ann(), "dead_1").await.unwrap_err().kind(), &StoreErrorKind::NotFound);
}

#[tokio::test]
async fn events_of_both_kinds_are_one_list_in_the_order_of_the_stream() {
    let stage = Stage::new().await;
    stage.database.pod_project(pod_record("pod_ann", "ann", 1)).await.unwrap();
    stage.database.pod_project(pod_record("pod_bob", "bob", 1)).await.unwrap();
    for sequence in (1..=9).rev() {
        match sequence % 3 {
            0 => stage.database.host_event_project(host_event(sequence)).await.unwrap(),
            1 => stage.database.pod_event_project(pod_event("pod_ann", sequence)).await.unwrap(),
            _ => stage.database.pod_event_project(pod_event("pod_bob", sequence)).await.unwrap(),
        };
    }
    let list = async |scope: Scope, filter: EventFilter, direction: Direction| {
        let mut found = Vec::new();
        let mut page = PageRequest { limit: 2, after: None, direction };
        loop {
            let part = stage.database.event_list(&scope, &filter, &page).await.unwrap();
            assert!(part.items.len() <= 2);
            found.extend(part.items.into_iter().map(|event| event.stream_sequence));
            match part.next {
                Some(next) => page.after = Some(next),
                None => return found,
            }
        }
    };
    let all = EventFilter::default();
    assert_eq!(list(Scope::All, all.clone(), Direction::Forward).await, (1..=9).collect::<Vec<i64>>());
    assert_eq!(list(Scope::All, all.clone(), Direction::Backward).await, (1..=9).rev().collect::<Vec<i64>>());
    assert_eq!(list(ann(), all.clone(), Direction::Forward).await, [1, 4, 7]);
    let hosts = EventFilter { kind: Some("host".into()), ..all.clone() };
    assert_eq!(list(Scope::All, hosts, Direction::Forward).await, [3, 6, 9]);
    let bobs = EventFilter { target_id: Some("pod_bob".into()), ..all.clone() };
    assert_eq!(list(Scope::All, bobs.clone(), Direction::Backward).await, [8, 5, 2]);
    assert_eq!(list(ann(), bobs, Direction::Forward).await, Vec::<i64>::new());
    let time = |seconds| Some(past_hour() + TimeDelta::seconds(seconds));
    let some = EventFilter { since: time(4), until: time(6), what: Some("created".into()), ..all };
    assert_eq!(list(Scope::All, some, Direction::Forward).await, [4, 5]);
}

#[tokio::test]
async fn pages_hold_every_row_once_while_others_come_and_go() {
    let stage = Stage::new().await;
    let mut ids: Vec<String> = (0..9).map(|_| pod_id()).collect();
    ids.sort();
    for (at, id) in ids.iter().enumerate() {
        let owner = if at % 2 == 0 { "ann" } else { "bob" };
        stage.database.pod_project(pod_record(id, owner, 1)).await.unwrap();
    }
    let mut page = PageRequest::first(4);
    let first = stage.database.pod_list(&Scope::All, &PodFilter::default(), &page).await.unwrap();
    stage.database.pod_delete(&ids[1], past_hour(), 2).await.unwrap();
    page.after = first.next.clone();
    let second = stage.database.pod_list(&Scope::All, &PodFilter::default(), &page).await.unwrap();
    let found: Vec<_> = first.items.iter().chain(&second.items).map(|pod| pod.pod_id.clone()).collect();
    assert_eq!(found, ids[..8]);
    let page = PageRequest { direction: Direction::Backward, ..PageRequest::first(100) };
    let anns = stage.database.pod_list(&ann(), &PodFilter::default(), &page).await.unwrap();
    assert_eq!(
        anns.items.iter().map(|pod| &pod.pod_id).collect::<Vec<_>>(),
        [&ids[8], &ids[6], &ids[4], &ids[2], &ids[0]]
    );
    assert_eq!(anns.next, None);
    let stopped = PodFilter { phase: Some("stopped".into()), ..PodFilter::default() };
    assert!(stage.database.pod_list(&ann(), &stopped, &PageRequest::first(1)).await.unwrap().items.is_empty());
    assert!(stage.database.host_list(&ann(), &HostFilter::default(), &page).await.unwrap().items.is_empty());
    let foreign = PageRequest { after: Some(Cursor::from("yesterday".to_owned())), ..PageRequest::first(1) };
    let refused = stage.database.event_list(&Scope::All, &EventFilter::default(), &foreign).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::BadCursor);
}

#[tokio::test]
async fn after_the_bus_began_anew_its_records_replace_the_old_ones() {
    let stage = Stage::new().await;
    let host = host_id();
    stage.database.host_project(host_record(&host, "before", 500)).await.unwrap();
    assert_eq!(stage.database.sequence_highest(Replaced::Hosts).await.unwrap(), 500);
    assert_eq!(stage.database.sequences_rebase(Replaced::Hosts, 500).await.unwrap(), 0);
    assert_eq!(stage.database.host_project(host_record(&host, "after", 2)).await.unwrap(), Applied::Stale);
    assert_eq!(stage.database.sequences_rebase(Replaced::Hosts, 2).await.unwrap(), 1);
    assert_eq!(stage.database.host_project(host_record(&host, "after", 2)).await.unwrap(), Applied::Written);
    for table in [Replaced::Pods, Replaced::Operations, Replaced::Exec] {
        assert_eq!(stage.database.sequence_highest(table).await.unwrap(), 0);
        assert_eq!(stage.database.sequences_rebase(table, 0).await.unwrap(), 0);
    }
}
