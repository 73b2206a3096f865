//! Who sees what: random people, teams, roles and things, asked about by everybody through every scoped finder, against a
//! plain model. The scope is the one that the gateway makes of an identity.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use pinacle_bus::contract::{TeamId, TokenId, UserId};
use pinacle_gateway::identity::{Grant, Identity, Role, Via};
use pinacle_store::{
    EventFilter, ExecFilter, ExecRow, HostEventRow, HostFilter, HostRow, OperationFilter, OperationRow, PageRequest,
    PodEventRow, PodFilter, RequestRow, Scope,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use super::fixture::{Stage, host_record, past_hour, pod_record};

const PEOPLE: usize = 3;
const TEAMS: usize = 2;
/// The last of the owners is the installation.
const OWNERS: usize = PEOPLE + TEAMS + 1;

#[derive(Debug, Clone)]
struct World {
    /// Who is in which team, and how.
    members: Vec<(usize, usize, usize)>,
    /// Whose each pod is, and on which host it is.
    pods: Vec<(usize, usize)>,
    /// Whose each host is.
    hosts: Vec<usize>,
    /// Who asks: a person, whether they are admin, whether their token has the grant, and a team that it is for.
    askers: Vec<(usize, bool, bool, Option<usize>)>,
}

fn world() -> impl Strategy<Value = World> {
    let members = vec((0..PEOPLE, 0..TEAMS, 0..3_usize), 0..6);
    let pods = vec((0..OWNERS, 0..2_usize), 0..7);
    let hosts = vec(0..OWNERS, 2);
    let askers = vec((0..PEOPLE, any::<bool>(), any::<bool>(), proptest::option::of(0..TEAMS)), 1..4);
    (members, pods, hosts, askers).prop_map(|(members, pods, hosts, askers)| World { members, pods, hosts, askers })
}

/// The names of all owners.
struct Names {
    people: Vec<UserId>,
    teams: Vec<TeamId>,
}

impl Names {
    fn owner(&self, index: usize) -> String {
        match index {
            person if person < PEOPLE => self.people[person].to_string(),
            team if team < PEOPLE + TEAMS => self.teams[team - PEOPLE].to_string(),
            _ => "admin".into(),
        }
    }
}

/// What the model says that somebody has.
fn owners_of(
    world: &World,
    names: &Names,
    (person, is_admin, grant, team): (usize, bool, bool, Option<usize>),
) -> Option<BTreeSet<String>> {
    if is_admin && grant && team.is_none() {
        return None;
    }
    let mut owners: BTreeSet<String> = world
        .members
        .iter()
        .filter(|(who, of, _)| *who == person && team.is_none_or(|only| only == *of))
        .map(|(_, of, _)| names.teams[*of].to_string())
        .collect();
    if team.is_none() {
        owners.insert(names.people[person].to_string());
    }
    Some(owners)
}

fn identity(
    world: &World,
    names: &Names,
    (person, is_admin, grant, team): (usize, bool, bool, Option<usize>),
) -> Identity {
    let mut roles = BTreeMap::new();
    for (who, of, role) in &world.members {
        if *who == person {
            roles.insert(names.teams[*of], Role::ALL[*role]);
        }
    }
    let grants = Grant::ALL.into_iter().filter(|it| grant || *it != Grant::Admin).collect();
    let team = team.map(|team| names.teams[team]);
    Identity::person(names.people[person], Via::Token(TokenId::new()), is_admin, grants, roles, team)
}

fn operation(id: &str, pod: &str) -> OperationRow {
    OperationRow {
        operation_id: id.into(),
        request_id: format!("req-{id}"),
        kind: "pod".into(),
        target_id: pod.into(),
        verb: "start".into(),
        progress: "running".into(),
        cause: None,
        started_at: past_hour(),
        deadline_at: past_hour(),
        ended_at: None,
        stream_sequence: 1,
        requested_by: "whoever".into(),
        host_id: None,
        takeovers: 0,
    }
}

fn command(id: &str, pod: &str, host: &str) -> ExecRow {
    ExecRow {
        operation_id: id.into(),
        sequence: 1,
        host_id: host.into(),
        pod_id: Some(pod.into()),
        step: "run".into(),
        label: "run".into(),
        command: "true".into(),
        container_command: None,
        stdout: String::new(),
        stderr: String::new(),
        exit_code: Some(0),
        started_at: past_hour(),
        duration_ms: Some(1),
        stream_sequence: 1,
    }
}

fn request(id: &str, pod: &str) -> RequestRow {
    RequestRow {
        request_id: format!("req-{id}"),
        operation_id: id.into(),
        kind: "pod".into(),
        target_id: pod.into(),
        verb: "start".into(),
        requested_by: "whoever".into(),
        requested_at: past_hour(),
        deadline_at: None,
        parameters: json!({}),
        stream_sequence: 1,
    }
}

fn at() -> DateTime<Utc> {
    past_hour()
}

async fn build(stage: &Stage, world: &World, names: &Names) {
    sqlx::raw_sql(
        "TRUNCATE account, team, team_member, pod, host, operation, operation_step, exec_log, pod_event, host_event, \
         request CASCADE",
    )
    .execute(&stage.sql)
    .await
    .unwrap();
    for team in &names.teams {
        let insert = "INSERT INTO team (team_id, name, created_at) VALUES ($1, $1, $2)";
        sqlx::query(insert).bind(team.to_string()).bind(at()).execute(&stage.sql).await.unwrap();
    }
    let database = &stage.database;
    for (index, owner) in world.hosts.iter().enumerate() {
        let id = format!("host-{index}");
        let row = HostRow { owner: Some(names.owner(*owner)), ..host_record(&id, &id, 1) };
        database.host_project(row).await.unwrap();
        let event = HostEventRow {
            event_id: format!("evt-{id}"),
            host_id: id,
            at: at(),
            what: "x".into(),
            message: "x".into(),
            detail: json!({}),
            stream_sequence: i64::try_from(index).unwrap() + 1,
        };
        database.host_event_project(event).await.unwrap();
    }
    for (index, (owner, host)) in world.pods.iter().enumerate() {
        let (pod, op, host) = (format!("pod-{index}"), format!("op-{index}"), format!("host-{host}"));
        database.pod_project(pod_record(&pod, &names.owner(*owner), 1)).await.unwrap();
        database.operation_project(operation(&op, &pod), Vec::new()).await.unwrap();
        database.exec_project(command(&op, &pod, &host)).await.unwrap();
        database.request_project(request(&op, &pod)).await.unwrap();
        let event = PodEventRow {
            event_id: format!("evt-{pod}"),
            pod_id: pod,
            at: at(),
            what: "x".into(),
            message: "x".into(),
            detail: json!({}),
            stream_sequence: i64::try_from(index).unwrap() + 100,
        };
        database.pod_event_project(event).await.unwrap();
    }
}

async fn check(stage: &Stage, world: &World, names: &Names, asker: (usize, bool, bool, Option<usize>)) {
    let (identity, owners) = (identity(world, names, asker), owners_of(world, names, asker));
    let sees = |owner: &str| owners.as_ref().is_none_or(|owners| owners.contains(owner));
    for owner in (0..OWNERS).map(|owner| names.owner(owner)) {
        assert_eq!(identity.owns(&owner), sees(&owner), "{owner}");
    }
    assert_eq!(identity.is_admin(), owners.is_none());
    let scope: &Scope = identity.scope();
    let (database, page) = (&stage.database, PageRequest::first(100));
    let pods: Vec<usize> = (0..world.pods.len()).filter(|pod| sees(&names.owner(world.pods[*pod].0))).collect();
    let hosts: Vec<String> = (0..world.hosts.len())
        .filter(|host| sees(&names.owner(world.hosts[*host])))
        .map(|host| format!("host-{host}"))
        .collect();
    let ids = |kind: &str| pods.iter().map(|pod| format!("{kind}-{pod}")).collect::<Vec<_>>();

    let found = database.pod_list(scope, &PodFilter::default(), &page).await.unwrap().items;
    assert_eq!(found.into_iter().map(|row| row.pod_id).collect::<Vec<_>>(), ids("pod"));
    let found = database.operation_list(scope, &OperationFilter::default(), &page).await.unwrap().items;
    assert_eq!(found.into_iter().map(|row| row.operation_id).collect::<Vec<_>>(), ids("op"));
    let found = database.exec_list(scope, &ExecFilter::default(), &page).await.unwrap().items;
    assert_eq!(found.into_iter().map(|row| row.operation_id).collect::<Vec<_>>(), ids("op"));
    let found = database.request_list(scope, None, &page).await.unwrap().items;
    assert_eq!(found.into_iter().map(|row| row.operation_id).collect::<Vec<_>>(), ids("op"));
    let found = database.host_list(scope, &HostFilter::default(), &page).await.unwrap().items;
    assert_eq!(found.into_iter().map(|row| row.host_id).collect::<Vec<_>>(), hosts);
    let found = database.event_list(scope, &EventFilter::default(), &page).await.unwrap().items;
    let (of_hosts, of_pods): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| row.kind == "host");
    assert_eq!(of_pods.into_iter().map(|row| row.target_id).collect::<Vec<_>>(), ids("pod"));
    assert_eq!(of_hosts.into_iter().map(|row| row.target_id).collect::<Vec<_>>(), hosts);
    let teams: BTreeSet<String> =
        database.team_list(scope, &page).await.unwrap().items.into_iter().map(|row| row.team_id).collect();
    let all = names.teams.iter().map(TeamId::to_string);
    assert_eq!(teams, all.filter(|team| sees(team)).collect());

    for pod in 0..world.pods.len() {
        let (owner, is_seen) = (names.owner(world.pods[pod].0), pods.contains(&pod));
        let (id, op) = (format!("pod-{pod}"), format!("op-{pod}"));
        assert_eq!(database.pod_get(scope, &id).await.is_ok(), is_seen, "{owner}");
        assert_eq!(database.operation_get(scope, &op).await.is_ok(), is_seen, "{owner}");
        assert_eq!(database.request_of_operation(scope, &op).await.is_ok(), is_seen, "{owner}");
        assert_eq!(database.pod_sample_newest(scope, &id).await.is_ok(), is_seen, "{owner}");
    }
    for host in 0..world.hosts.len() {
        let id = format!("host-{host}");
        assert_eq!(database.host_get(scope, &id).await.is_ok(), hosts.contains(&id));
    }
}

#[test]
fn everybody_sees_what_the_model_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stage = runtime.block_on(Stage::new());
    let names = Names {
        people: (0..PEOPLE).map(|_| UserId::new()).collect(),
        teams: (0..TEAMS).map(|_| TeamId::new()).collect(),
    };
    let config = Config { cases: 40, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    TestRunner::new(config)
        .run(&world(), |world| {
            runtime.block_on(async {
                build(&stage, &world, &names).await;
                for asker in &world.askers {
                    check(&stage, &world, &names, *asker).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
