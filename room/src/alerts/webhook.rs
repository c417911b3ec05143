//! Webhooks: one POST of JSON, whose answer is read no further than its status. Redirects are not followed: an address that
//! moved is written anew by whoever wrote it.

use std::time::Duration;

use reqwest::{Client, Url, redirect};

use super::message::Message;
use super::targets::{Form, Secret};

/// A client for all webhooks.
pub(super) fn client() -> Result<Client, String> {
    // A second provider of cryptography in the process is no harm: the first one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(10))
        .timeout(Duration::from_secs(15))
        .pool_max_idle_per_host(0)
        .user_agent(concat!("palette/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(said)
}

/// Sends a message; why it was not taken never says the address.
pub(super) async fn send(
    client: &Client,
    form: Form,
    url: &Secret,
    message: &Message,
) -> Result<(), String> {
    let mut url = Url::parse(&url.0).map_err(|_| "the address is no address".to_owned())?;
    let mut name = String::new();
    if form == Form::Ntfy {
        // The topic is a field, so that no text is a header.
        name = topic(&url).ok_or("the address ends with no topic")?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().pop();
        }
    }
    let body = message.json(form, &name).to_string();
    let request = client
        .post(url)
        .header(reqwest::header::CONTENT_TYPE, "application/json")
        // For receivers that drop what they have seen.
        .header("idempotency-key", &message.id)
        .body(body);
    let status = request.send().await.map_err(said)?.status();
    match status {
        status if status.is_success() => Ok(()),
        status if status.is_redirection() => Err(format!(
            "the receiver redirects ({}), which is not followed: write the new address",
            status.as_u16()
        )),
        status => Err(format!("the receiver answers {status}")),
    }
}

/// The last part of the path, which is ntfy's topic.
pub(super) fn topic(url: &Url) -> Option<String> {
    let mut parts = url.path_segments()?.rev().filter(|part| !part.is_empty());
    parts.next().map(str::to_owned)
}

/// What an error says with its causes, without the address.
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    super::message::line(&secrets::text(&text), 300)
}
