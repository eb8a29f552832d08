//! Requests that wait at the same time are made together, and nobody notices but by the clock.

use api::config::Config;
use serde_json::{Value, json};
use tests::client::Client;
use tests::service::spawn_app_with;

/// Requests at once: enough to measure images alone, in pairs, and to use what was learned.
const REQUESTS: u64 = 12;

/// What is tested is what comes of batches, not whether they pay on this machine.
fn batches_always_pay(config: &mut Config) {
    config.limits.generations_per_client_max = REQUESTS as usize;
    config.limits.batch_gain_percent_min = 0;
    config.limits.batch_delay_ms_max = 3_600_000;
    config.limits.turn_wait_ms_max = 600_000;
}

fn order(number: u64) -> Value {
    let prompts = ["a red heart", "a blue car", "a green leaf"];
    json!({
        "prompt": prompts[number as usize % 3],
        "seed": 100 + number,
        "num_inference_steps": 6,
        "guidance_scale": 2.0 + number as f64 / 4.0,
        "negative_prompt": if number.is_multiple_of(2) { "a dog" } else { "" },
    })
}

/// Batches of more than one image that the process has made.
fn batches(client: &Client) -> u64 {
    let text = client.get("/metrics").text();
    let count = |bound: &str| -> u64 {
        let series = format!("retrace_generation_batch_images_bucket{{le=\"{bound}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap().parse().unwrap()
    };
    count("+Inf") - count("1")
}

#[test]
fn requests_that_wait_together_get_the_pixels_that_each_gets_alone() {
    let service = spawn_app_with(batches_always_pay);
    let client = service.client();
    let before = batches(&client);
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let clients = (0..REQUESTS).map(|number| {
            let client = service.client();
            scope.spawn(move || client.generate(&order(number)).expect_ok())
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert!(batches(&client) > before, "no batch was formed");
    let mut leaves = std::collections::BTreeSet::new();
    for (number, answer) in (0..).zip(&answers) {
        let alone = client.generate(&order(number)).expect_ok();
        let pixels = |answer: &Value| answer["data"][0]["image"]["pixel_sha256"].clone();
        assert_eq!(pixels(answer), pixels(&alone), "request {number}");
        assert_eq!(answer["data"][0]["seed"], 100 + number);
        leaves.insert(answer["data"][0]["provenance"]["entry"]["leaf_index"].as_u64());
    }
    assert_eq!(leaves.len(), answers.len(), "every image has its entry");
}

#[test]
fn a_client_that_leaves_a_batch_leaves_the_others_their_images() {
    let service = spawn_app_with(batches_always_pay);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients = (0..REQUESTS).map(|number| {
            let client = service.client();
            scope.spawn(move || {
                if number % 3 == 1 {
                    // It hangs up at once, before or during its turn.
                    client.post_and_leave("/v1/images/generations", &order(number));
                    return 200;
                }
                client.generate(&order(number)).status
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(statuses, vec![200; REQUESTS as usize]);
    service.client().generate(&order(1)).expect_ok();
}

#[test]
fn jobs_that_wait_together_are_made_together_with_the_pixels_of_each_alone() {
    let service = spawn_app_with(batches_always_pay);
    let client = service.client();
    let before = batches(&client);
    let jobs: Vec<String> = (0..REQUESTS)
        .map(|number| {
            let answer = client.generate_async(&order(number), &[]);
            assert_eq!(answer.status, 202, "{}", answer.text());
            answer.header("location").to_owned()
        })
        .collect();
    // One of them is not wanted any more, whether it waits or runs.
    let (cancelled, kept) = jobs.split_last().unwrap();
    assert!(client.delete(cancelled).status < 300);
    let ended: Vec<Value> = kept
        .iter()
        .map(|job| {
            let last = client.events(&format!("{job}/events"), None).last();
            last.unwrap().data
        })
        .collect();
    assert!(batches(&client) > before, "no batch was formed");
    for (number, job) in (0..).zip(&ended) {
        assert_eq!(job["state"], "succeeded", "{job}");
        let alone = client.generate(&order(number)).expect_ok();
        let entry = &job["result"]["entries"][0]["statement"]["body"]["image"];
        let expected = &alone["data"][0]["image"]["pixel_sha256"];
        assert_eq!(&entry["pixel_sha256"], expected, "request {number}: {job}");
    }
}
