//! A client of the service under test: plain HTTP, as anybody outside would speak it.

use std::io::{BufRead, BufReader, Lines, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use ureq::{Agent, BodyReader};

/// Nothing here takes long; a service that hangs fails its test.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Far above every answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Calls one service, with or without an API key.
pub struct Client {
    agent: Agent,
    base: String,
    key: Option<String>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// `content-type`, or nothing.
    pub media_type: String,
    /// Every header with its name in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON body of an answer that must be a success.
    pub fn expect_ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// Checks that this is a problem of RFC 9457 with this status and code, and returns its detail.
    pub fn expect_problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert!(
            self.media_type.starts_with("application/problem+json"),
            "{}: {}",
            self.media_type,
            self.text()
        );
        let problem = self.json();
        assert_eq!(
            problem["type"],
            format!("urn:retrace:problem:{code}"),
            "{problem}"
        );
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["title", "detail"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member} of {problem}"
            );
        }
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub struct ServerEvent {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub event: String,
    /// Its data.
    pub data: Value,
}

/// Events as they come, until the service ends the answer. Dropping it breaks the connection off.
pub struct ServerEvents {
    /// HTTP status code.
    pub status: u16,
    lines: Lines<BufReader<BodyReader<'static>>>,
}

impl Iterator for ServerEvents {
    type Item = ServerEvent;

    fn next(&mut self) -> Option<ServerEvent> {
        let (mut id, mut event, mut data) = (None, String::new(), Value::Null);
        loop {
            let line = self
                .lines
                .next()?
                .unwrap_or_else(|error| panic!("the events break off: {error}"));
            if let (true, Some(id)) = (line.is_empty(), id) {
                return Some(ServerEvent { id, event, data });
            }
            match line.split_once(": ") {
                Some(("id", value)) => id = value.parse().ok(),
                Some(("event", value)) => event = value.to_owned(),
                Some(("data", value)) => {
                    data = serde_json::from_str(value)
                        .unwrap_or_else(|error| panic!("{error}: {value}"));
                }
                // Comments, and how soon to come back.
                _ => {}
            }
        }
    }
}

/// A file to upload and what is said about it.
pub struct UploadedFile<'a> {
    /// File name.
    pub name: &'a str,
    /// Media type.
    pub media_type: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl Client {
    /// A client of the service on a port of the loopback interface.
    pub fn new(port: u16, key: Option<String>) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build()
            .new_agent();
        Self {
            agent,
            base: format!("http://127.0.0.1:{port}"),
            key,
        }
    }

    /// `GET` of a path.
    pub fn get(&self, path: &str) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        answer(request.call(), path)
    }

    /// `DELETE` of a path.
    pub fn delete(&self, path: &str) -> Answer {
        let mut request = self.agent.delete(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        answer(request.call(), path)
    }

    /// The server-sent events of a path, after the one with this id.
    pub fn events(&self, path: &str, after: Option<u64>) -> ServerEvents {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let response = request
            .call()
            .unwrap_or_else(|error| panic!("no answer from {path}: {error}"));
        let status = response.status().as_u16();
        ServerEvents {
            status,
            lines: BufReader::new(response.into_body().into_reader()).lines(),
        }
    }

    /// Queues a generation and returns its job.
    pub fn generate_async(&self, request: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("prefer", "respond-async")];
        all.extend(headers);
        let body = request.to_string();
        self.post(
            "/v1/images/generations",
            ("application/json", body.as_bytes()),
            &all,
        )
    }

    /// `POST` of a body, with its media type, to a path, with further headers.
    pub fn post(&self, path: &str, body: (&str, &[u8]), headers: &[(&str, &str)]) -> Answer {
        let (media_type, body) = body;
        let mut request = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("content-type", media_type);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body), path)
    }

    /// `POST` of a JSON document.
    pub fn post_json(&self, path: &str, document: &Value) -> Answer {
        self.post(
            path,
            ("application/json", document.to_string().as_bytes()),
            &[],
        )
    }

    /// `POST` of a JSON document by a client that hangs up before the answer.
    pub fn post_and_leave(&self, path: &str, document: &Value) {
        let address = self.base.trim_start_matches("http://");
        let body = document.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent =
            TcpStream::connect(address).and_then(|mut stream| stream.write_all(request.as_bytes()));
        sent.unwrap_or_else(|error| panic!("nothing can be sent to {path}: {error}"));
    }

    /// Asks for images.
    pub fn generate(&self, request: &Value) -> Answer {
        self.post_json("/v1/images/generations", request)
    }

    /// Generates one small image and returns its item of the answer.
    pub fn generate_one(&self, prompt: &str, seed: u64) -> Value {
        let request = json!({ "prompt": prompt, "seed": seed, "num_inference_steps": 4 });
        let answer = self.generate(&request).expect_ok();
        answer["data"][0].clone()
    }

    /// Uploads a file to be scored.
    pub fn score(&self, file: &UploadedFile<'_>) -> Answer {
        let (media_type, body) = form(file);
        self.post("/v1/scores", (&media_type, &body), &[])
    }

    /// Uploads a PNG file to be scored.
    pub fn score_png(&self, bytes: &[u8]) -> Answer {
        self.score(&UploadedFile {
            name: "picture.png",
            media_type: "image/png",
            bytes,
        })
    }
}

/// The PNG file of an item of the answer to a generation.
pub fn png_of(item: &Value) -> Vec<u8> {
    base64_of(&item["b64_json"])
}

/// The bundle of an item of the answer to a generation, or of the answer to a score.
pub fn bundle_of(item: &Value) -> Vec<u8> {
    base64_of(&item["provenance"]["bundle"])
}

fn base64_of(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_else(|| panic!("no text: {value}"));
    BASE64
        .decode(text)
        .unwrap_or_else(|error| panic!("no base64: {error}"))
}

/// A `multipart/form-data` body with the one field `file`: its media type and its bytes.
pub fn form(file: &UploadedFile<'_>) -> (String, Vec<u8>) {
    let mut boundary = "form-of-a-test".to_owned();
    while file
        .bytes
        .windows(boundary.len())
        .any(|window| window == boundary.as_bytes())
    {
        boundary.push('-');
    }
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        file.name, file.media_type
    );
    let body = [
        head.as_bytes(),
        file.bytes,
        format!("\r\n--{boundary}--\r\n").as_bytes(),
    ]
    .concat();
    (format!("multipart/form-data; boundary={boundary}"), body)
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>, path: &str) -> Answer {
    let mut response = result.unwrap_or_else(|error| panic!("no answer from {path}: {error}"));
    let media_type = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().to_owned();
    let headers = response.headers().iter().map(|(name, value)| {
        let value = value.to_str().unwrap_or_default();
        (name.as_str().to_owned(), value.to_owned())
    });
    let headers = headers.collect();
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_vec();
    let body = body.unwrap_or_else(|error| panic!("the answer from {path} breaks off: {error}"));
    Answer {
        status,
        media_type,
        headers,
        body,
    }
}
