//! What is somebody else's: no route, no topic and no list tells a stranger that it is there. The routes are those of the
//! document, so that a new one is tried by itself.

use std::collections::BTreeMap;

use pinacle_bus::contract::{
    EventId, HostId, InvitationId, LoginId, OperationId, PodId, TeamId, Timestamp, TokenId, UserId, event::Event,
    host::HostRecord, subject::EventKind, topology::HOSTS,
};
use pinacle_tests::eventually;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    stage::{SOON, Stage, answer, golden},
    tenants::{Somebody, text},
};

/// What of ann's there is to find, by the name of the parameter that would name it: hers, and one that never was.
type Things = BTreeMap<&'static str, Vec<(String, String)>>;

async fn things_of(stage: &Stage, ann: &Somebody) -> Things {
    let host_id = HostId::new();
    let record =
        HostRecord { host_id, name: "anns-host".into(), owner: Some(ann.user_id.clone()), ..golden("host_record") };
    stage.bus.bucket(&HOSTS).await.unwrap().create(&host_id.to_string(), &record).await.unwrap();
    let made = stage.ask(ann, Method::POST, "/pods", json!({ "name": "anns-pod" })).await;
    assert!([201, 202].contains(&made.status), "{made:?}");
    let placed = stage.pod("anns-placed", &ann.user_id, Some(host_id)).await;
    let team = stage.team(ann, "anns-team").await;
    let invited = json!({ "email": "carl@example.com", "role": "member" });
    let invited = stage.ask(ann, Method::POST, "/teams/anns-team/invitations", invited).await;
    let token = stage.look(ann, "/tokens").await.body["items"][0].clone();
    let pod = text(&made.body["pod"], "pod_id");
    eventually(SOON, "ann's things", async || {
        let answers =
            [stage.get(&format!("/hosts/{host_id}")).await.status, stage.get(&format!("/pods/{placed}")).await.status];
        if answers == [200, 200] { Ok(()) } else { Err(answers) }
    })
    .await;
    let pair = |hers: String, never: String| (hers, never);
    let session = LoginId::new().to_string();
    let insert = "INSERT INTO login (login_id, user_id, token_hash, csrf_hash, created_at, seen_at, expires_at, \
                  remote_address, user_agent) VALUES ($1, $2, '\\x01', '\\x02', now(), now(), now() + interval '1 day', '', '')";
    sqlx::query(insert).bind(&session).bind(&ann.user_id).execute(&stage.sql().await).await.unwrap();
    let kept = stage.ask(ann, Method::PUT, "/secrets/ANNS_SECRET", json!({ "value": "anns-value" })).await;
    assert!([200, 201].contains(&kept.status), "{kept:?}");
    let things: Things = BTreeMap::from([
        ("name", vec![pair("ANNS_SECRET".into(), "NO_SUCH_SECRET".into())]),
        (
            "pod",
            vec![
                pair(pod, PodId::new().to_string()),
                pair(placed.to_string(), PodId::new().to_string()),
                pair("anns-pod".into(), "no-such-pod".into()),
            ],
        ),
        (
            "host",
            vec![pair(host_id.to_string(), HostId::new().to_string()), pair("anns-host".into(), "no-such-host".into())],
        ),
        ("operation", vec![pair(text(&made.body, "operation_id"), OperationId::new().to_string())]),
        ("team", vec![pair(team.clone(), TeamId::new().to_string()), pair("anns-team".into(), "no-such-team".into())]),
        (
            "user",
            vec![
                pair(ann.user_id.clone(), UserId::new().to_string()),
                pair(ann.email.clone(), "nobody@example.com".into()),
            ],
        ),
        (
            "owner",
            vec![
                pair(ann.user_id.clone(), UserId::new().to_string()),
                pair(team, TeamId::new().to_string()),
                pair("anns-team".into(), "no-such-team".into()),
            ],
        ),
        // Of dead letters nobody but admins learns anything; sessions have owners.
        ("id", vec![pair(session, LoginId::new().to_string())]),
        ("token", vec![pair(text(&token, "token_id"), TokenId::new().to_string())]),
        ("invitation", vec![pair(text(&invited.body, "invitation_id"), InvitationId::new().to_string())]),
    ]);
    things
}

/// The simplest value that a schema allows.
fn sample(schema: &Value, schemas: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(&schemas[reference.rsplit('/').next().unwrap()], schemas);
    }
    if !schema["example"].is_null() {
        return schema["example"].clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|options| options.first()) {
        return first.clone();
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        if let Some(options) = schema[key].as_array() {
            return options
                .iter()
                .find(|option| option["type"] != "null")
                .map_or(Value::Null, |it| sample(it, schemas));
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
    match kind {
        "string" if schema["format"] == "date-time" => json!(Timestamp::now()),
        "string" => json!("text"),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(1)),
        "boolean" => json!(true),
        "array" => json!([sample(&schema["items"], schemas)]),
        _ => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = required.iter().filter_map(Value::as_str);
            fields
                .map(|name| (name.to_owned(), sample(&schema["properties"][name], schemas)))
                .collect::<Map<_, _>>()
                .into()
        }
    }
}

/// An operation of the document.
struct Route {
    method: Method,
    path: String,
    id: String,
    parameters: Vec<String>,
    filters: Vec<String>,
    body: Option<Value>,
}

fn routes(document: &Value) -> Vec<Route> {
    let schemas = &document["components"]["schemas"];
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            // What asks nobody who they are, strangers are meant to use; the WebSocket has a test of its own.
            if operation["security"] == json!([{}]) || operation["operationId"] == "live" {
                continue;
            }
            let named = |place: &str| -> Vec<String> {
                let all = operation["parameters"].as_array().cloned().unwrap_or_default();
                all.iter().filter(|it| it["in"] == place).map(|it| text(it, "name")).collect()
            };
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                id: text(operation, "operationId"),
                parameters: named("path"),
                filters: named("query"),
                body: (!body.is_null()).then(|| sample(body, schemas)),
            });
        }
    }
    routes
}

impl Stage {
    async fn document(&self) -> Value {
        answer(self.request(Method::GET, "/api/openapi.json")).await.body
    }

    /// What somebody is told, without what is different each time.
    async fn told(&self, who: &Somebody, route: &Route, path: &str, asked: &str) -> (u16, String) {
        let answer = self.as_who(&who.token, route.method.clone(), path, route.body.clone()).await;
        let mut body = answer.body;
        if let Some(body) = body.as_object_mut() {
            body.remove("request_id");
        }
        (answer.status, body.to_string().replace(asked, "<it>").replace(&asked.replace('@', "%40"), "<it>"))
    }
}

#[tokio::test]
async fn every_route_answers_a_stranger_alike_whether_it_is_there_or_never_was() {
    let stage = Stage::start().await;
    let (ann, eve) = (stage.person("ann", false).await, stage.person("eve", false).await);
    let things = things_of(&stage, &ann).await;
    let document = stage.document().await;
    let mut tried = 0;
    // Whoever puts a secret has one of that name, beside hers.
    let names_hers = |route: &&Route| !route.parameters.is_empty() && route.id != "secret_put";
    for route in routes(&document).iter().filter(names_hers) {
        let (first, others) = route.parameters.split_first().unwrap();
        let known = |name: &str| things.get(name).unwrap_or_else(|| panic!("say what of ann's {{{name}}} stands for"));
        // A route below something of ann's: the rest of it is hers, too.
        let fill = |mut path: String| {
            for name in others {
                path = path.replace(&format!("{{{name}}}"), &known(name)[0].0);
            }
            path
        };
        for (hers, never) in known(first) {
            let at = |id: &str| fill(route.path.replace(&format!("{{{first}}}"), id));
            let real = stage.told(&eve, route, &at(hers), hers).await;
            let none = stage.told(&eve, route, &at(never), never).await;
            assert_eq!(real, none, "{} {} tells {hers} from what never was", route.method, route.path);
            assert!([403, 404].contains(&real.0), "{} of {hers}: {real:?}", route.id);
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");

    // All of it is as it was.
    for path in ["/pods/anns-pod", "/pods/anns-placed", "/teams/anns-team", "/tokens", "/secrets/ANNS_SECRET/versions"]
    {
        assert_eq!(stage.look(&ann, path).await.status, 200, "{path}");
    }
    assert_eq!(stage.get("/hosts/anns-host").await.status, 200);
    assert_eq!(stage.look(&ann, "/pods/anns-pod").await.body["phase"], "pending");
}

#[tokio::test]
async fn no_list_tells_a_stranger_what_or_how_much_there_is() {
    let stage = Stage::start().await;
    let _ingest = stage.ingest().await;
    let (ann, eve) = (stage.person("ann", false).await, stage.person("eve", false).await);
    let things = things_of(&stage, &ann).await;
    let pod = things["pod"][1].0.clone();
    let event = Event {
        event_id: EventId::new(),
        at: Timestamp::now(),
        kind: EventKind::Pod,
        target_id: pod.clone(),
        message: "anns-pod is pending".into(),
        ..golden("event")
    };
    let subject = pinacle_bus::contract::Subject::Event { kind: event.kind, id: pod.clone(), what: event.what.clone() };
    stage.bus.publish(&subject, &event.event_id.to_string(), &event).await.unwrap();
    eventually(SOON, "ann to see what happened", async || {
        let answer = stage.look(&ann, &format!("/pods/{pod}/events")).await;
        let count = answer.body["items"].as_array().map_or(0, Vec::len);
        if count == 1 { Ok(()) } else { Err(answer) }
    })
    .await;

    let secrets: Vec<&str> = things
        .values()
        .flatten()
        .map(|(hers, _)| hers.as_str())
        .chain([ann.email.as_str(), "anns-", "carl@"])
        .collect();
    let mut listed = 0;
    for route in routes(&stage.document().await) {
        if !route.parameters.is_empty() || route.method != Method::GET {
            continue;
        }
        let answer = stage.look(&eve, &route.path).await;
        assert!([200, 403].contains(&answer.status), "{}: {answer:?}", route.path);
        let said = answer.body.to_string();
        for secret in &secrets {
            assert!(!said.contains(secret), "{} tells of {secret}: {said}", route.path);
        }
        listed += u32::from(answer.status == 200);
        // Nor does a filter tell whether what it names is there.
        for name in &route.filters {
            let Some(pairs) = things.get(name.as_str()) else { continue };
            for (hers, never) in pairs {
                let at = |id: &str| format!("{}?{name}={id}", route.path);
                let real = stage.told(&eve, &route, &at(hers), hers).await;
                let none = stage.told(&eve, &route, &at(never), never).await;
                assert_eq!(real, none, "{} {name}", route.path);
                assert!(real.0 != 200 || !real.1.contains("anns-"), "{real:?}");
            }
        }
    }
    assert!(listed >= 6, "{listed}");

    // What somebody may name in a body is no way round.
    for (hers, never) in &things["owner"] {
        let told = |owner: &str| {
            let body = json!({ "name": "mine", "owner": owner });
            stage.as_who(&eve.token, Method::POST, "/pods", Some(body))
        };
        let (real, none) = (told(hers).await, told(never).await);
        assert_eq!((real.status, &real.body["detail"]), (404, &none.body["detail"]), "{hers}");
    }
    let team = |name: &str| {
        let body = json!({ "name": "t", "grants": ["read"], "team": name });
        stage.as_who(&eve.token, Method::POST, "/tokens", Some(body))
    };
    for (hers, never) in &things["team"] {
        let (real, none) = (team(hers).await, team(never).await);
        assert_eq!((real.status, &real.body["detail"]), (404, &none.body["detail"]), "{hers}");
    }
}

/// Every topic, as the gateway itself lists them to whoever asks for none of them.
async fn topics(stage: &Stage, who: &Somebody) -> Vec<String> {
    let mut socket = super::socket::Socket::open(stage.address, &who.token).await;
    socket.say(json!({ "op": "subscribe", "topic": "nothing" })).await;
    let said = text(&socket.until(|said| said["op"] == "error").await, "detail");
    let (_, list) = said.split_once("expected ").unwrap_or_else(|| panic!("{said}"));
    let list = list.split(" at line").next().unwrap().replace(" or ", ", ");
    list.split(", ").map(|topic| topic.trim().to_owned()).filter(|topic| !topic.is_empty()).collect()
}

#[tokio::test]
async fn no_topic_tells_a_stranger_what_there_is() {
    let stage = Stage::start().await;
    let (ann, eve) = (stage.person("ann", false).await, stage.person("eve", false).await);
    let things = things_of(&stage, &ann).await;
    let topics = topics(&stage, &eve).await;
    assert!(topics.len() >= 9, "{topics:?}");
    for topic in &topics {
        let mut socket = super::socket::Socket::open(stage.address, &eve.token).await;
        let name = match topic.split_once(':') {
            None => {
                // A list: what comes is eve's alone. Of events only new ones come.
                socket.say(json!({ "op": "subscribe", "topic": topic })).await;
                let said = socket.until(|said| said["op"] != "pong").await;
                if said["op"] == "subscribed" && topic != "events" {
                    let state = socket.until(|said| said["op"] == "state").await;
                    assert_eq!((&state["items"], &state["removed"]), (&json!([]), &json!([])), "{topic}");
                }
                continue;
            }
            Some(("host", _)) => "host",
            Some(("op", _)) => "operation",
            Some(("pod" | "exec" | "logs", _)) => "pod",
            Some(other) => panic!("say what of ann's {other:?} stands for"),
        };
        let (kind, _) = topic.split_once(':').unwrap();
        let (hers, never) = &things[name][0];
        let mut said = Vec::new();
        for id in [hers, never] {
            socket.say(json!({ "op": "subscribe", "topic": format!("{kind}:{id}") })).await;
            let mut heard = socket.until(|said| said["op"] != "pong").await.to_string();
            if heard.contains("subscribed") {
                heard.push_str(&socket.until(|said| said["op"] == "state").await.to_string());
            }
            said.push(heard.replace(id.as_str(), "<it>"));
        }
        assert_eq!(said[0], said[1], "{topic}");
        assert!(!said[0].contains("anns-"), "{topic}: {said:?}");
    }
}
