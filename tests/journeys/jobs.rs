//! Asynchronous generations: queued, followed, cancelled, and finished whoever dies on the way.

use std::path::Path;
use std::process::Command;

use api::config::Role;
use ledger::Scope;
use provenance::Bundle;
use serde_json::{Value, json};
use tests::client::{Client, ServerEvent, bundle_of};
use tests::service::{TestProcess, reachable_folder, spawn_app, spawn_app_on, spawn_app_with};

/// An order of this many images and steps, with a seed.
fn order(n: u32, steps: u32) -> Value {
    json!({ "prompt": "a red heart", "n": n, "seed": 7, "num_inference_steps": steps })
}

/// Queues an order and returns the path of its job.
fn queue(client: &Client, order: &Value) -> String {
    let answer = client.generate_async(order, &[]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.header("location").to_owned()
}

fn follow(client: &Client, job: &str) -> impl Iterator<Item = ServerEvent> {
    client.events(&format!("{job}/events"), None)
}

/// Waits for an event of this name.
fn wait_for(events: &mut impl Iterator<Item = ServerEvent>, name: &str) -> ServerEvent {
    events
        .find(|event| event.event == name)
        .unwrap_or_else(|| panic!("the events end without {name}"))
}

/// The entries that the log holds of a job's request.
fn entries_of(client: &Client, job: &Value) -> Vec<Value> {
    let page = client.get("/v1/entries?limit=200").expect_ok();
    let all = page["entries"].as_array().unwrap().clone();
    all.into_iter()
        .filter(|entry| {
            entry
                .to_string()
                .contains(job["request_id"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn a_job_goes_from_the_queue_to_images_that_verify() {
    let service = spawn_app();
    let alice = service.client_with("alice", &[Scope::Generate, Scope::Audit]);
    let answer = alice.generate_async(&order(2, 4), &[("idempotency-key", "order-1")]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.header("preference-applied"), "respond-async");
    let path = answer.header("location").to_owned();
    let again = alice.generate_async(&order(2, 4), &[("idempotency-key", "order-1")]);
    assert_eq!(again.header("location"), path, "the same key, the same job");
    alice
        .generate_async(&order(1, 4), &[("idempotency-key", "order-1")])
        .expect_problem(409, "idempotency-conflict");

    let events: Vec<ServerEvent> = follow(&alice, &path).collect();
    assert!(
        events.windows(2).all(|pair| pair[0].id < pair[1].id),
        "{events:?}"
    );
    let last = events.last().unwrap();
    assert_eq!(last.event, "succeeded", "{last:?}");
    let job = alice.get(&path).expect_ok();
    assert_eq!(job, last.data, "the last event carries the job");
    let entries = job["result"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{job}");
    for entry in entries {
        let image = alice.get(entry["image_url"].as_str().unwrap());
        assert_eq!(
            (image.status, image.media_type.as_str()),
            (200, "image/png")
        );
        let bundle = alice.get(entry["bundle_url"].as_str().unwrap());
        let bundle = Bundle::parse(&bundle.body).unwrap();
        bundle.verify(service.public_keys()).unwrap();
    }
    // A plain request under the same key is answered with what the job made.
    let plain = alice.post(
        "/v1/images/generations",
        ("application/json", order(2, 4).to_string().as_bytes()),
        &[("idempotency-key", "order-1")],
    );
    let plain = plain.expect_ok();
    let recorded = &plain["data"][0]["provenance"]["entry"]["leaf_index"];
    assert_eq!(*recorded, entries[0]["leaf_index"]);
    let dump = service.dump_database();
    let row = dump.lines().find(|line| line.contains(&path[9..])).unwrap();
    assert!(!row.contains("red heart"), "the job keeps no prompt: {row}");
}

#[test]
fn only_its_client_and_an_admin_see_a_job() {
    let service = spawn_app();
    let alice = service.client_with("alice", &[Scope::Generate]);
    let bob = service.client_with("bob", &[Scope::Generate]);
    let admin = service.client_with("boss", &[Scope::Admin]);
    let path = queue(&alice, &order(1, 2));
    wait_for(&mut follow(&alice, &path), "succeeded");
    for path in [path.clone(), format!("{path}/events")] {
        bob.get(&path).expect_problem(404, "not-found");
    }
    bob.delete(&path).expect_problem(404, "not-found");
    assert_eq!(admin.get(&path).expect_ok()["state"], "succeeded");
    assert_eq!(bob.get("/v1/jobs").expect_ok()["data"], json!([]));
    let second = queue(&alice, &order(1, 2));
    let page = alice.get("/v1/jobs?limit=1").expect_ok();
    assert_eq!(
        format!("/v1/jobs/{}", page["data"][0]["id"].as_str().unwrap()),
        second
    );
    let next = page["next_before"].as_str().unwrap();
    let rest = alice
        .get(&format!("/v1/jobs?limit=1&before={next}"))
        .expect_ok();
    assert_eq!(
        format!("/v1/jobs/{}", rest["data"][0]["id"].as_str().unwrap()),
        path
    );
    assert_eq!(rest["next_before"], Value::Null);
    for missing in ["/v1/jobs/job-000000000000000000000000", "/v1/jobs/x"] {
        alice.get(missing).expect_problem(404, "not-found");
    }
}

#[test]
fn a_cancelled_job_stops_after_its_step_and_records_nothing() {
    let service = spawn_app();
    let client = service.client();
    // Minutes of work, if nobody stopped it.
    let path = queue(&client, &order(8, 200));
    let mut events = follow(&client, &path);
    wait_for(&mut events, "progress");
    let told = client.delete(&path).expect_ok();
    assert_eq!(told["cancel_requested"], true);
    let after: Vec<String> = events.map(|event| event.event).collect();
    assert_eq!(after.last().unwrap(), "cancelled", "{after:?}");
    let job = client.get(&path).expect_ok();
    assert_eq!(
        (&job["state"], &job["result"]),
        (&json!("cancelled"), &Value::Null)
    );
    assert!(job["progress"]["share"].as_f64().unwrap() < 0.9, "{job}");
    assert!(entries_of(&client, &job).is_empty());
    // The room is free again, and cancelling twice changes nothing.
    assert_eq!(client.delete(&path).expect_ok()["state"], "cancelled");
    client.generate_one("a blue car", 1);
}

#[test]
fn who_comes_back_to_the_events_gets_what_happened_since() {
    let service = spawn_app();
    let client = service.client();
    let path = queue(&client, &order(2, 40));
    let mut events = follow(&client, &path);
    let seen = wait_for(&mut events, "progress");
    drop(events);
    let path_of_events = format!("{path}/events");
    let rest: Vec<ServerEvent> = client.events(&path_of_events, Some(seen.id)).collect();
    assert!(rest[0].id > seen.id, "{rest:?}");
    let last = rest.last().unwrap();
    assert_eq!(last.event, "succeeded");
    let replayed: Vec<u64> = follow(&client, &path).map(|event| event.id).collect();
    assert!(replayed.contains(&seen.id) && replayed.contains(&rest[0].id));
    let nothing_left = client.events(&path_of_events, Some(last.id));
    assert_eq!(nothing_left.status, 204);
    client.get(&format!("{path}?x=1")).expect_ok();
}

#[test]
fn a_worker_killed_in_the_middle_loses_no_job_and_records_none_twice() {
    let service = spawn_app_with(|config| config.role = Role::Api);
    let client = service.client();
    let path = queue(&client, &order(2, 100));
    assert_eq!(client.get(&path).expect_ok()["queue_position"], 1);
    let lost = service.start_worker(&["--job-lease-ms", "1000"]);
    let mut events = follow(&client, &path);
    wait_for(&mut events, "progress");
    lost.kill();
    let _successor = service.start_worker(&[]);
    let done = wait_for(&mut events, "succeeded");
    assert_eq!(done.data["attempts"], 2, "{}", done.data);
    assert_eq!(entries_of(&client, &done.data).len(), 2);
}

#[test]
fn a_worker_that_is_asked_to_stop_hands_its_job_back() {
    let service = spawn_app_with(|config| config.role = Role::Api);
    let client = service.client();
    let path = queue(&client, &order(1, 100));
    let leaving = service.start_worker(&[]);
    let mut events = follow(&client, &path);
    wait_for(&mut events, "progress");
    leaving.stop();
    wait_for(&mut events, "handed_back");
    assert_eq!(client.get(&path).expect_ok()["attempts"], 0);
    let _next = service.start_worker(&[]);
    let done = wait_for(&mut events, "succeeded");
    assert_eq!(entries_of(&client, &done.data).len(), 1);
}

#[test]
fn an_api_process_and_a_worker_process_share_one_private_postgres() {
    let folder = reachable_folder().unwrap();
    let state = folder.path();
    let api = TestProcess::start(state, None, &["--role", "api"]);
    let worker = TestProcess::start(state, None, &["--role", "worker"]);
    let health = api.client().get("/healthz").expect_ok();
    assert_eq!(
        (&health["role"], &health["generator"]),
        (&json!("api"), &Value::Null)
    );
    assert_eq!(health["queue"]["waiting"], 0, "{health}");
    let health = worker.client().get("/healthz").expect_ok();
    assert_eq!(health["role"], "worker");
    assert_eq!(health["sequencer"], "elsewhere");
    worker.client().get("/readyz").expect_ok();
    worker
        .client()
        .generate(&order(1, 2))
        .expect_problem(404, "not-found");

    let answer = api.client().generate(&order(1, 4)).expect_ok();
    let bundle = Bundle::parse(&bundle_of(&answer["data"][0])).unwrap();
    let keys = std::fs::read_to_string(state.join("retrace.pub")).unwrap();
    let verified = bundle
        .verify(&provenance::PublicKeys::parse(&keys).unwrap())
        .unwrap();
    assert_eq!(verified.leaf_index.get(), 0);
    check_announced_model(&api.client(), &answer);
    // What only the worker's model can refuse comes back as the refusal that it is.
    let refused = json!({ "prompt": "a", "model": "no-such-model" });
    api.client()
        .generate(&refused)
        .expect_problem(404, "unknown-model");
    worker.stop();
    api.stop();
}

/// An `api` process names the model that its worker announces, takes sizes as A1111's clients send them, and refuses
/// what a worker does not send.
fn check_announced_model(client: &Client, answer: &Value) {
    let models = client.get("/v1/models").expect_ok();
    let model = &models["data"][0];
    assert_eq!(
        (&model["id"], &model["size"]),
        (&answer["model"], &json!("64x64"))
    );
    let name = model["id"].as_str().unwrap();
    let one = client.get(&format!("/v1/models/{name}")).expect_ok();
    assert_eq!(one["digest"], model["digest"]);
    let listed = client.get("/sdapi/v1/sd-models").expect_ok();
    assert_eq!(listed[0]["sha256"], model["digest"]);
    assert_eq!(
        answer["usage"]["output_tokens"],
        json!(16 * 16),
        "{}",
        answer["usage"]
    );
    let sized = json!({ "prompt": "a red heart", "steps": 2, "width": 64, "override_settings":
        { "sd_model_checkpoint": listed[0]["title"] } });
    let painted = client.post_json("/sdapi/v1/txt2img", &sized).expect_ok();
    assert_eq!(painted["images"].as_array().unwrap().len(), 1);
    let partial = json!({ "prompt": "a red heart", "stream": true, "partial_images": 1 });
    client
        .generate(&partial)
        .expect_problem(400, "invalid-request");
}

#[test]
fn a_worker_makes_no_keys_of_its_own() {
    let folder = reachable_folder().unwrap();
    let output = serve(folder.path(), &["--role", "worker"]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no signing keys"), "{told}");
    assert!(!folder.path().join("keys").exists());
}

/// Runs `retrace serve` to its end.
fn serve(state: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(tests::programs::program("retrace").unwrap())
        .args(["serve", "--port", "0"])
        .args(arguments)
        .env_remove("DATABASE_URL")
        .env("RETRACE_STATE", state)
        .env("RETRACE_MODELS", tests::house::root().join("models"))
        .env("RETRACE_RUNTIME", tests::service::runtime_folder())
        .output()
        .unwrap()
}

#[test]
fn too_much_work_is_refused_with_when_to_come_back() {
    let service = spawn_app_with(|config| {
        // Nobody works the queue off.
        config.role = Role::Api;
        config.limits.jobs_per_client_max = 2;
        config.limits.jobs_waiting_max = 3;
        config.limits.turn_wait_ms_max = 50;
    });
    let alice = service.client_with("alice", &[Scope::Generate]);
    let bob = service.client_with("bob", &[Scope::Generate]);
    for _ in 0..2 {
        queue(&alice, &order(1, 4));
    }
    let refused = alice.generate_async(&order(1, 4), &[]);
    let told = refused.expect_problem(429, "too-many-requests");
    assert!(told.contains("jobs_per_client_max"), "{told}");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());

    // A plain request waits for a worker no longer than for a turn, and leaves nothing behind.
    let refused = bob.generate(&order(1, 4));
    refused.expect_problem(503, "overloaded");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());

    let kept = queue(&bob, &order(1, 4));
    let refused = bob.generate_async(&order(1, 4), &[]);
    let told = refused.expect_problem(503, "overloaded");
    assert!(told.contains("jobs_waiting_max"), "{told}");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(bob.delete(&kept).expect_ok()["state"], "cancelled");
    queue(&bob, &order(1, 4));
}

#[test]
fn a_client_with_its_share_under_way_is_refused_and_others_are_not() {
    let service = spawn_app_with(|config| config.limits.generations_per_client_max = 1);
    let alice = service.client_with("alice", &[Scope::Generate]);
    let bob = service.client_with("bob", &[Scope::Generate]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| alice.generate(&order(2, 30))))
            .collect();
        let answers = sent.into_iter().map(|thread| thread.join().unwrap());
        answers
            .map(|answer| {
                if answer.status == 429 {
                    answer.expect_problem(429, "too-many-requests");
                    assert!(answer.header("retry-after").parse::<u32>().is_ok());
                }
                answer.status
            })
            .collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 2);
    bob.generate(&order(1, 2)).expect_ok();
}

/// Sends an order of three images without a seed under one key.
fn keyed(client: &Client) -> Value {
    let body = json!({ "prompt": "a green leaf", "n": 3, "num_inference_steps": 4 }).to_string();
    let answer = client.post(
        "/v1/images/generations",
        ("application/json", body.as_bytes()),
        &[("idempotency-key", "order-17")],
    );
    answer.expect_ok()
}

#[test]
fn a_request_that_broke_off_in_the_middle_is_carried_on() {
    let first = spawn_app();
    let whole = keyed(&first.client());
    // Another log of the same keys, which knows the first image alone: as after a crash.
    let state = reachable_folder().unwrap();
    for folder in ["keys", "images"] {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(first.state().join(folder))
            .arg(state.path())
            .status();
        assert!(copied.unwrap().success());
    }
    let second = spawn_app_on(state);
    let bundle = Bundle::parse(&bundle_of(&whole["data"][0])).unwrap();
    second.append(bundle.envelope());
    let carried_on = keyed(&second.client());
    let pixels = |answer: &Value| {
        let images = answer["data"].as_array().unwrap().clone();
        let pixels = images
            .into_iter()
            .map(|image| image["image"]["pixel_sha256"].clone());
        pixels.collect::<Vec<_>>()
    };
    assert_eq!(
        pixels(&carried_on),
        pixels(&whole),
        "the drawn seed is kept"
    );
    let of_first = |answer: &Value| answer["data"][0]["provenance"]["entry"]["leaf_hash"].clone();
    assert_eq!(of_first(&carried_on), of_first(&whole));
    assert_eq!(keyed(&second.client())["data"], carried_on["data"]);
}
