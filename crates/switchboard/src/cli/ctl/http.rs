//! One request to the admin API.

use std::future::Future;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, Ctl};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of an answer. A collection is held by `commands.max_held_bytes`, 64 MiB if nobody changed it.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Asks, and waits. The error is for people.
pub(super) fn ask(ctl: &Ctl) -> Result<Answer, String> {
    let request = request(ctl)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(exchange(ctl, request))
}

fn request(ctl: &Ctl) -> Result<Request<Full<Bytes>>, String> {
    let no_header = |name: &'static str| move |_| format!("{name} cannot stand in a header");
    let mut token =
        HeaderValue::from_str(&format!("Bearer {}", ctl.token.reveal())).map_err(no_header("admin.token"))?;
    token.set_sensitive(true);
    let mut request =
        Request::builder().method(&ctl.method).uri(&ctl.path).header(HOST, &ctl.authority).header(AUTHORIZATION, token);
    if let Some(key) = &ctl.idempotency_key {
        request =
            request.header(IDEMPOTENCY_KEY, HeaderValue::from_str(key).map_err(no_header("the idempotency key"))?);
    }
    if ctl.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    let body = ctl.body.clone().unwrap_or_default();
    request.body(Full::new(body.into())).map_err(|error| error.to_string())
}

async fn exchange(ctl: &Ctl, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let unreachable = |reason: io::Error| {
        format!(
            "{} cannot be reached: {reason}; is the server running, and does its admin API listen there?",
            ctl.authority
        )
    };
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(&ctl.authority)).await;
    let socket = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
    let broken = |error: hyper::Error| format!("the connection to {} broke: {error}", ctl.authority);
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(response).await
    };
    let answered = async {
        tokio::select! {
            biased;
            answer = asking => answer,
            // It ends before the answer only if it fails.
            never = drive(connection) => never,
        }
    };
    let in_time = timeout(ctl.patience, answered).await;
    in_time.unwrap_or_else(|_| Err(format!("{} did not answer in time", ctl.authority)))
}

/// Moves the bytes, for as long as somebody waits for an answer, who is told what goes wrong.
async fn drive<T>(connection: impl Future<Output = hyper::Result<()>>) -> T {
    drop(connection.await);
    std::future::pending().await
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
    let body = String::from_utf8(body.into()).map_err(|_| "the answer is not UTF-8".to_owned())?;
    Ok(Answer { status, body })
}
