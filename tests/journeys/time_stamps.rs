//! Checkpoints of the log under the time stamps of an authority, and what auditors refuse.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use credentials::{TimeStampAnchors, TimeStampReply};
use ledger::Scope;
use serde_json::{Value, json};
use tests::client::Client;
use tests::programs::program;
use tests::python::Server;
use tests::service::{TestService, reachable_folder, spawn_app_on_with, spawn_app_with};

/// Has checkpoints stamped alone, as soon as may be.
fn stamped_by(config: &mut api::config::Config, address: &str) {
    config.time_stamps.time_stamp_authority = Some(format!("{address}good"));
    config.time_stamps.time_stamp_checkpoints_only = true;
    config.time_stamps.checkpoint_stamp_interval_s = 1;
    config.time_stamps.checkpoint_stamp_backoff_s_max = 1;
}

fn generate(client: &Client) {
    let body = json!({ "prompt": "a red heart", "seed": 7, "num_inference_steps": 2 });
    client
        .post_json("/v1/images/generations", &body)
        .expect_ok();
}

/// The list once it has a stamp of the newest checkpoint.
fn stamped(client: &Client) -> Value {
    let newest = client.get("/checkpoint").text();
    loop {
        let list = client.get("/v1/checkpoints/time-stamps").expect_ok();
        if list["time_stamps"][0]["note"] == newest {
            return list;
        }
        std::thread::yield_now();
    }
}

/// Saves a checkpoint and its time stamp as an auditor does: `SIZE.txt` and `SIZE.tsr`.
fn save(client: &Client, size: u64, audit: &Path) {
    let note = client.get(&format!("/v1/checkpoints/{size}"));
    assert_eq!(note.status, 200, "{}", note.text());
    let reply = client.get(&format!("/v1/checkpoints/{size}/time-stamp"));
    assert_eq!(
        (reply.status, &reply.media_type[..]),
        (200, "application/timestamp-reply")
    );
    fs::write(audit.join(format!("{size}.txt")), note.body).unwrap();
    fs::write(audit.join(format!("{size}.tsr")), reply.body).unwrap();
}

/// Whether OpenSSL takes the answer in a file as a time stamp of another file, under these anchors.
fn openssl_accepts(audit: &Path, data: &str, reply: &str, anchors: &str) -> bool {
    let output = Command::new("openssl")
        .current_dir(audit)
        .args(["ts", "-verify", "-data", data, "-in", reply])
        .args(["-CAfile", anchors])
        .output()
        .expect("the tests need the program openssl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success() && said.contains("Verification: OK")
}

/// Runs `retrace-verify checkpoint`; its exit code and its report.
fn verify(audit: &Path, checkpoint: &str, reply: &str, anchors: &str) -> (Option<i32>, Value) {
    let output = Command::new(program("retrace-verify").unwrap())
        .current_dir(audit)
        .args(["--json", "checkpoint", checkpoint])
        .args(["--public-key", "retrace.pub", "--time-stamp", reply])
        .args(["--time-stamp-anchors", anchors])
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

/// The reason for which the stamp is refused.
fn refusal(report: &Value) -> Value {
    let checks = report["checks"].as_array().unwrap();
    let stamp = checks.iter().find(|check| check["name"] == "time stamp");
    stamp.unwrap_or_else(|| panic!("{report}"))["code"].clone()
}

/// Runs a command of `retrace ledger` on the service's database; its exit code and its report.
fn ledger(service: &TestService, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(program("retrace").unwrap())
        .arg("ledger")
        .args(arguments)
        .args(["--json", "--state"])
        .arg(service.state())
        .env("DATABASE_URL", service.database_url())
        .env("RETRACE_RUNTIME", tests::service::runtime_folder())
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn metric(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn checkpoints_are_stamped_by_an_authority_whose_death_stops_nobody() {
    let audit = reachable_folder().unwrap();
    let audit = audit.path();
    let first_root = audit.join("first.pem");
    let first = Server::start("time_stamp_authority.py", &[first_root.to_str().unwrap()]);
    let address = first.address.clone();
    let service = spawn_app_with(|config| stamped_by(config, &address));
    let client = service.client_with("newsroom", &[Scope::Generate, Scope::Audit]);
    fs::write(audit.join("retrace.pub"), service.public_keys().to_string()).unwrap();

    // The empty log is not stamped: that would date nothing.
    assert_eq!(
        client.get("/v1/checkpoints/time-stamps").expect_ok(),
        json!({ "time_stamps": [], "next": null })
    );
    client
        .get("/v1/checkpoints/1/time-stamp")
        .expect_problem(404, "not-found");
    generate(&client);
    let list = stamped(&client);
    let size = list["time_stamps"][0]["tree_size"].as_u64().unwrap();
    save(&client, size, audit);
    let (note, reply) = (format!("{size}.txt"), format!("{size}.tsr"));
    assert!(openssl_accepts(audit, &note, &reply, "first.pem"));
    let (code, report) = verify(audit, &note, &reply, "first.pem");
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["time_stamped_at"], list["time_stamps"][0]["time"]);

    // The authority dies: everything goes on, and nothing is stamped.
    drop(first);
    let before = metric(&client, "retrace_checkpoint_time_stamp_failures");
    generate(&client);
    let unstamped = client.get("/checkpoint").text();
    while metric(&client, "retrace_checkpoint_time_stamp_failures") < before + 2 {
        generate(&client);
    }
    let list = client.get("/v1/checkpoints/time-stamps").expect_ok();
    assert_eq!(list["time_stamps"].as_array().unwrap().len(), 1);

    // It comes back, with other keys, and the newest checkpoint is stamped: not those between.
    let port = address.trim_end_matches('/').rsplit_once(':').unwrap().1;
    let second_root = audit.join("second.pem");
    let arguments = [second_root.to_str().unwrap(), port];
    let second = Server::start("time_stamp_authority.py", &arguments);
    let list = stamped(&client);
    let stamps = list["time_stamps"].as_array().unwrap();
    assert!(stamps.iter().all(|stamp| stamp["note"] != unstamped));
    let last = stamps[0]["tree_size"].as_u64().unwrap();
    save(&client, last, audit);
    let (note, reply) = (format!("{last}.txt"), format!("{last}.tsr"));
    assert!(openssl_accepts(audit, &note, &reply, "second.pem"));
    assert!(!openssl_accepts(audit, &note, &reply, "first.pem"));
    let (code, report) = verify(audit, &note, &reply, "first.pem");
    assert_eq!(
        (code, refusal(&report)),
        (Some(1), json!("time-stamp-untrusted"))
    );
    // Pages, newest first.
    let page = client
        .get("/v1/checkpoints/time-stamps?limit=1")
        .expect_ok();
    assert_eq!(page["next"], last);
    let page = client
        .get(&format!("/v1/checkpoints/time-stamps?before={last}"))
        .expect_ok();
    assert_eq!(page["time_stamps"][0]["tree_size"], size);
    client
        .get("/v1/checkpoints/time-stamps?limit=101")
        .expect_problem(400, "invalid-request");
    drop(second);
    stamps_outlive_a_backup(&service, stamps.len());
}

/// Whatever byte of an answer is changed, it is refused, or says the same: it holds things that nobody signed and
/// nobody needs, such as the root's certificate.
fn no_changed_byte_gives_another_time(good: &[u8], note: &[u8], root: &Path) {
    let anchors = TimeStampAnchors::parse(&fs::read_to_string(root).unwrap()).unwrap();
    let verify = |reply: &[u8]| {
        TimeStampReply::parse(reply).and_then(|it| it.verify_trusted(note, &anchors))
    };
    let said = verify(good).unwrap();
    let mut refused = 0;
    for at in 0..good.len() {
        let mut changed = good.to_vec();
        changed[at] ^= 0x41;
        match verify(&changed) {
            Ok(stamp) => assert_eq!(stamp, said, "byte {at}"),
            Err(_) => refused += 1,
        }
        assert!(verify(&good[..at]).is_err(), "{at} bytes");
    }
    assert!(refused > good.len() / 2, "{refused} of {}", good.len());
}

/// The operator's check reads them, a backup holds them, and a restored log has them.
fn stamps_outlive_a_backup(service: &TestService, stamps: usize) {
    let (code, report) = ledger(service, &["check"]);
    assert_eq!((code, &report["sound"]), (Some(0), &json!(true)));
    assert_eq!(report["time_stamps"], stamps, "{report}");
    let place = reachable_folder().unwrap();
    let backup = place.path().join("backup");
    let (code, report) = ledger(service, &["backup", backup.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{report}");
    let output = Command::new(program("retrace").unwrap())
        .args(["ledger", "restore", backup.to_str().unwrap(), "--json"])
        .arg("--state")
        .arg(service.state())
        .env("DATABASE_URL", service.new_database())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &report["time_stamps"]),
        (Some(0), &json!(stamps)),
        "{report}"
    );
}

#[test]
fn auditors_refuse_every_time_stamp_that_proves_nothing() {
    let audit = reachable_folder().unwrap();
    let audit = audit.path();
    let root = audit.join("root.pem");
    let authority = Server::start("time_stamp_authority.py", &[root.to_str().unwrap()]);
    let service = spawn_app_on_with(reachable_folder().unwrap(), |_| ());
    let client = service.client_with("newsroom", &[Scope::Generate, Scope::Audit]);
    let keys = service.public_keys().to_string();
    fs::write(audit.join("retrace.pub"), keys).unwrap();
    generate(&client);
    let note = client.get("/checkpoint").body;
    fs::write(audit.join("note.txt"), &note).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let ask = |mode: &str| {
        let request = credentials::time_stamp_request(&note).unwrap();
        let post = agent.post(format!("{}{mode}", authority.address));
        let answer = post
            .content_type("application/timestamp-query")
            .send(&request[..]);
        answer.unwrap().body_mut().read_to_vec().unwrap()
    };
    for (mode, code) in [
        ("other", "time-stamp-imprint-differs"),
        ("garbage", "time-stamp-unreadable"),
        ("refuse", "time-stamp-not-granted"),
        ("mail", "time-stamp-purpose"),
        ("expired", "time-stamp-certificate-not-valid"),
        ("forged", "time-stamp-untrusted"),
    ] {
        fs::write(audit.join("reply.tsr"), ask(mode)).unwrap();
        let (exit, report) = verify(audit, "note.txt", "reply.tsr", "root.pem");
        assert_eq!((exit, refusal(&report)), (Some(1), json!(code)), "{report}");
        assert_eq!(report.get("time_stamped_at"), None, "{mode}");
        assert!(
            !openssl_accepts(audit, "note.txt", "reply.tsr", "root.pem"),
            "{mode}"
        );
    }
    let good = ask("good");
    fs::write(audit.join("reply.tsr"), &good).unwrap();
    let (exit, report) = verify(audit, "note.txt", "reply.tsr", "root.pem");
    assert_eq!(exit, Some(0), "{report}");
    assert!(openssl_accepts(audit, "note.txt", "reply.tsr", "root.pem"));
    // The end of the answer is the signature.
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(audit.join("reply.tsr"), &changed).unwrap();
    let (exit, report) = verify(audit, "note.txt", "reply.tsr", "root.pem");
    let expected = (Some(1), json!("time-stamp-signature"));
    assert_eq!((exit, refusal(&report)), expected, "{report}");
    no_changed_byte_gives_another_time(&good, &note, &root);
    // Anchors that are none.
    let (exit, report) = verify(audit, "note.txt", "reply.tsr", "note.txt");
    let expected = (Some(1), json!("trust-anchors"));
    assert_eq!((exit, refusal(&report)), expected, "{report}");
}
