//! The HTTP calls of the demonstration and of the benchmarks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

/// Generating on a loaded machine takes seconds; this is for a service that hangs.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);
/// Answers with images in them stay far below this.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// Whether the answer says when to come again.
    pub retry_after: bool,
}

/// Calls one service.
pub struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    /// A client of the service on a port of the loopback interface.
    pub fn new(port: u16) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            // The service is on this machine: a proxy of the environment is for other places.
            .proxy(None)
            .build()
            .new_agent();
        Self {
            agent,
            base: format!("http://127.0.0.1:{port}"),
        }
    }

    /// The address of the start page.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the service says that it is ready.
    pub fn is_ready(&self) -> bool {
        self.agent
            .get(format!("{}/readyz", self.base))
            .call()
            .is_ok_and(|answer| answer.status().is_success())
    }

    /// Generates one image and returns the whole answer.
    pub fn generate(&self, prompt: &str, seed: u64) -> Result<Value> {
        self.generate_images(prompt, seed, 1)
    }

    /// Generates images and returns the whole answer.
    pub fn generate_images(&self, prompt: &str, seed: u64, images: u64) -> Result<Value> {
        json_of(self.ask_for_images(prompt, seed, images)?)
    }

    /// Asks for an image of a service that may refuse.
    pub fn try_to_generate(&self, prompt: &str, seed: u64) -> Result<Status> {
        let mut answer = self.ask_for_images(prompt, seed, 1)?;
        let read = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        read.read_to_vec().context("the answer ends early")?;
        Ok(Status {
            code: answer.status().as_u16(),
            retry_after: answer.headers().contains_key("retry-after"),
        })
    }

    fn ask_for_images(&self, prompt: &str, seed: u64, images: u64) -> Result<Response<Body>> {
        let request =
            json!({ "prompt": prompt, "seed": seed, "n": images, "response_format": "b64_json" });
        self.agent
            .post(format!("{}/v1/images/generations", self.base))
            .send_json(request)
            .context("the service does not answer")
    }

    /// Scores an image file and returns the whole answer.
    pub fn score(&self, path: &Path) -> Result<Value> {
        let bytes =
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (boundary, body) = form_with_file(&name, &bytes);
        let answer = self
            .agent
            .post(format!("{}/v1/scores", self.base))
            .header(
                "content-type",
                format!("multipart/form-data; boundary={boundary}"),
            )
            .send(&body[..])
            .context("the service does not answer")?;
        json_of(answer).with_context(|| format!("scoring {}", path.display()))
    }

    /// The bytes of a path of the service.
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.base))
            .call()
            .context("the service does not answer")?;
        if !answer.status().is_success() {
            bail!("{path} is answered with {}", answer.status());
        }
        answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .context("the answer ends early")
    }
}

/// The JSON document of an answer, or the problem that it describes.
fn json_of(mut answer: Response<Body>) -> Result<Value> {
    let status = answer.status();
    let bytes = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec()
        .context("the answer ends early")?;
    let document: Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("the answer ({status}) is not JSON"))?;
    if !status.is_success() {
        let detail = document
            .get("detail")
            .and_then(Value::as_str)
            .unwrap_or("no detail was given");
        bail!("the service answers {status}: {detail}");
    }
    Ok(document)
}

/// A `multipart/form-data` body with one part `file`, and its boundary.
fn form_with_file(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    // The boundary must not occur in the file: it grows until it does not.
    let mut boundary = "retrace-form".to_owned();
    while bytes
        .windows(boundary.len())
        .any(|window| window == boundary.as_bytes())
    {
        boundary.push('-');
    }
    let name: String = name
        .chars()
        .filter(|character| !matches!(character, '"' | '\\' | '\r' | '\n'))
        .collect();
    let mut body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    (boundary, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_the_file_between_boundaries_that_do_not_occur_in_it() {
        let (boundary, body) = form_with_file("a\"b.png", b"xx retrace-form yy");
        assert_eq!(boundary, "retrace-form-");
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("filename=\"ab.png\""));
        assert!(text.ends_with("\r\n--retrace-form---\r\n"));
    }
}
