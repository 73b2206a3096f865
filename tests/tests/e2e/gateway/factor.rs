//! The second factor, with codes that another implementation makes: Python's.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{
    browser::{Browser, PASSWORD, first_admin},
    stage::{Answer, Stage},
};

/// RFC 6238 with nothing but Python's own library.
const TOTP: &str = "
import base64, hashlib, hmac, struct, sys, time
key = base64.b32decode(sys.argv[1] + '=' * (-len(sys.argv[1]) % 8))
counter = int(time.time()) // 30 + int(sys.argv[2])
digest = hmac.new(key, struct.pack('>Q', counter), hashlib.sha1).digest()
at = digest[-1] & 15
print('%06d' % ((struct.unpack('>I', digest[at:at + 4])[0] & 0x7fffffff) % 1000000))
";

/// The code of a step, counted from the one now.
pub fn code(secret: &str, step: i32) -> String {
    let output = Command::new(pinacle_tests::machine::tool("python3"))
        .args(["-c", TOTP, secret, &step.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Switches it on; returns the secret, the code that was used, and the recovery codes.
pub async fn switch_on(browser: &mut Browser) -> (String, String, Vec<String>) {
    let begun = browser.send(Method::POST, "/account/second-factor", Some(json!({ "password": PASSWORD }))).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let secret = begun.body["secret"].as_str().unwrap().to_owned();
    assert!(begun.body["url"].as_str().unwrap().contains(&format!("secret={secret}")), "{begun:?}");
    let picture = begun.body["qr_svg"].as_str().unwrap();
    assert!(picture.contains("<svg") && picture.contains("#ffffff") && !picture.contains("<script"), "{picture}");
    let used = code(&secret, 0);
    let on = browser.send(Method::POST, "/account/second-factor/confirm", Some(json!({ "code": used }))).await;
    assert_eq!(on.status, 200, "{on:?}");
    let codes = on.body["recovery_codes"].as_array().unwrap();
    (secret, used, codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect())
}

async fn sign_in(stage: &Stage, code: Option<&str>) -> Answer {
    let body = json!({ "email": "admin@localhost", "password": PASSWORD, "code": code });
    Browser::new(stage).send(Method::POST, "/sessions", Some(body)).await
}

#[tokio::test]
async fn signing_in_takes_a_code_that_is_good_once() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let begin = |password: &str| Some(json!({ "password": password }));
    let wrong = admin.send(Method::POST, "/account/second-factor", begin("wrong-wrong-wrong")).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (422, &json!("wrong_password")));
    let early = admin.send(Method::POST, "/account/second-factor/confirm", Some(json!({ "code": "123456" }))).await;
    assert_eq!((early.status, &early.body["code"]), (422, &json!("wrong_code")));
    // One that was set up and not confirmed is asked for nowhere.
    assert_eq!(admin.send(Method::POST, "/account/second-factor", begin(PASSWORD)).await.status, 201);
    assert_eq!(sign_in(&stage, None).await.status, 201);

    let (secret, used, recovery) = switch_on(&mut admin).await;
    assert_eq!(recovery.len(), 10);
    assert_eq!(admin.get("/account/second-factor").await.body, json!({ "is_on": true, "recovery_codes": 10 }));
    let taken = admin.send(Method::POST, "/account/second-factor", begin(PASSWORD)).await;
    assert_eq!((taken.status, &taken.body["code"]), (409, &json!("second_factor_on")));

    let needed = sign_in(&stage, None).await;
    assert_eq!((needed.status, &needed.body["code"]), (401, &json!("second_factor_needed")), "{needed:?}");
    let refused = |answer: Answer| assert_eq!((answer.status, &answer.body["code"]), (422, &json!("wrong_code")));
    refused(sign_in(&stage, Some(&used)).await);
    // Of the step after, which a clock that is a little fast shows; at once for two, one of them gets it.
    let next = code(&secret, 1);
    let (one, other) = tokio::join!(sign_in(&stage, Some(&next)), sign_in(&stage, Some(&next)));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 422], "{one:?} {other:?}");
    refused(sign_in(&stage, Some(&used)).await);
    refused(sign_in(&stage, Some(&code(&secret, -20))).await);

    // Without the app, each recovery code once, however it is typed.
    assert_eq!(sign_in(&stage, Some(&recovery[0].to_uppercase().replace('-', " "))).await.status, 201);
    refused(sign_in(&stage, Some(&recovery[0])).await);
    refused(sign_in(&stage, Some("abcde-abcde-abcde-abcde")).await);
    assert_eq!(admin.get("/account/second-factor").await.body["recovery_codes"], 9);

    // New ones take the password; those before are good no more.
    let path = "/account/second-factor/recovery-codes";
    let wrong = admin.send(Method::POST, path, begin("wrong-wrong-wrong")).await;
    assert_eq!((wrong.status, &wrong.body["code"]), (422, &json!("wrong_password")));
    let renewed = admin.send(Method::POST, path, begin(PASSWORD)).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let before = recovery;
    let recovery: Vec<String> = serde_json::from_value(renewed.body["recovery_codes"].clone()).unwrap();
    assert_eq!(admin.get("/account/second-factor").await.body, json!({ "is_on": true, "recovery_codes": 10 }));
    refused(sign_in(&stage, Some(&before[2])).await);
    assert_eq!(sign_in(&stage, Some(&recovery[0])).await.status, 201);

    let off = |code: &str| Some(json!({ "password": PASSWORD, "code": code }));
    assert_eq!(admin.send(Method::POST, "/account/second-factor/off", off("000000x")).await.status, 422);
    assert_eq!(admin.send(Method::POST, "/account/second-factor/off", off(&recovery[1])).await.status, 204);
    assert_eq!(sign_in(&stage, None).await.status, 201);
    let none = admin.send(Method::POST, path, begin(PASSWORD)).await;
    assert_eq!((none.status, &none.body["code"]), (409, &json!("second_factor_off")));

    let log = stage.gateway.log_text();
    for hidden in [&secret, &used, &next, &recovery[0], &recovery[1]] {
        // Six digits may be in a time or an id by chance; in quotes or after an equals sign they are not.
        assert!(
            !log.contains(&format!("\"{hidden}\"")) && !log.contains(&format!("={hidden}")),
            "the log has {hidden}"
        );
    }
    assert!(matches!(admin.get("/account/second-factor").await.body["is_on"], Value::Bool(false)));
}

#[tokio::test]
async fn what_the_database_holds_of_a_second_factor_lets_nobody_in() {
    let stage = Stage::start().await;
    let mut admin = first_admin(&stage).await;
    let (secret, _, recovery) = switch_on(&mut admin).await;
    let mut database = PgConnection::connect(&stage.database).await.unwrap();
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT secret FROM account_factor").fetch_one(&mut database).await.unwrap();
    let codes: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT code_hash FROM recovery_code").fetch_all(&mut database).await.unwrap();
    let plain = |code: &str| code.replace('-', "").into_bytes();
    assert!(sealed.len() > 20 + 16 && !sealed.windows(8).any(|part| secret.as_bytes().starts_with(part)));
    assert!(codes.len() == 10 && recovery.iter().all(|code| !codes.contains(&plain(code))));
    // Somebody else's sealed secret in its place opens nothing.
    sqlx::query("UPDATE account_factor SET secret = set_byte(secret, 30, (get_byte(secret, 30) + 1) % 256)")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(sign_in(&stage, Some(&code(&secret, 1))).await.status, 500);
}
