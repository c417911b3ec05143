//! The frame of every page.

use axum::response::{Html, IntoResponse};
use maud::{DOCTYPE, Markup, html};

use crate::{Refusal, Role, Who};

/// The screens, in the order of the navigation: what stands there, and where it leads.
const SCREENS: [(&str, &str); 10] = [
    ("Now", "/"),
    ("Runs", "/runs"),
    ("Curves", "/curves"),
    ("Pictures", "/pictures"),
    ("Sweeps", "/sweeps"),
    ("Queue", "/queue"),
    ("Results", "/results"),
    ("Data", "/data"),
    ("Try", "/try"),
    ("Alerts", "/alerts"),
];

/// A page of a screen.
pub struct Page<'a> {
    /// What the browser's tab says, and the heading.
    pub title: &'a str,
    /// The address of the screen that it belongs to, as in the navigation.
    pub screen: &'a str,
    /// Who looks at it.
    pub who: &'a Who,
    /// Scripts beside `room.js`, names of assets: `curves.js`. Those that are not modules (`uplot.js`) come first.
    pub scripts: &'a [&'a str],
    /// Styles beside `room.css`.
    pub styles: &'a [&'a str],
    /// What is on it.
    pub body: Markup,
}

impl IntoResponse for Page<'_> {
    fn into_response(self) -> axum::response::Response {
        let text = html! {
            (DOCTYPE)
            html lang="en" {
                (head(self.title, self.styles, self.scripts))
                body data-csrf=(self.who.csrf) {
                    a.skip href="#content" { "Skip to content" }
                    header.top {
                        a.brand href="/" { img src="/assets/icon.svg" alt="" width="20" height="20"; "Palette" }
                        nav aria-label="Screens" {
                            @for (name, address) in SCREENS {
                                a href=(address) aria-current=[(address == self.screen).then_some("page")] { (name) }
                            }
                        }
                        (whoever(self.who))
                    }
                    p.lost #lost role="status" hidden { }
                    main #content tabindex="-1" {
                        h1 { (self.title) }
                        (self.body)
                    }
                }
            }
        };
        Html(text.into_string()).into_response()
    }
}

/// Who looks at the page, and how they leave.
fn whoever(who: &Who) -> Markup {
    html! {
        span.who title=(format!("role: {}", who.role)) { (who.name) }
        @if who.role == Role::Admin { a.who href="/tokens" { "Tokens" } }
        @if !who.local {
            form method="post" action="/logout" { (csrf_input(who)) button.small { "Log out" } }
        }
    }
}

/// A page outside the screens, for whoever has not entered.
pub fn bare(title: &str, body: Markup) -> Html<String> {
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, &[], &[]))
            body { main #content { h1 { (title) } (body) } }
        }
    };
    Html(text.into_string())
}

fn head(title: &str, styles: &[&str], scripts: &[&str]) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Palette" }
            link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
            link rel="stylesheet" href="/assets/room.css";
            @for style in styles { link rel="stylesheet" href=(format!("/assets/{style}")); }
            @for script in scripts {
                @if *script == "uplot.js" { script defer src="/assets/uplot.js" {} }
                @else { script type="module" src=(format!("/assets/{script}")) {} }
            }
            script type="module" src="/assets/room.js" {}
        }
    }
}

/// A part of a page, as scripts ask for it to bring the page up to date.
pub fn fragment(markup: Markup) -> Html<String> {
    Html(markup.into_string())
}

/// The field that every form needs.
pub fn csrf_input(who: &Who) -> Markup {
    html! { input type="hidden" name="csrf" value=(who.csrf); }
}

/// What stands where there is nothing yet: why, and the command that changes it.
pub fn empty(why: &str, command: Option<&str>) -> Markup {
    html! {
        div.empty {
            p { (why) }
            // It scrolls where it is longer than the page is wide, by the keyboard too.
            @if let Some(command) = command { pre tabindex="0" { code { (command) } } }
        }
    }
}

/// The state of a job as a mark with its name.
pub fn state(state: &str) -> Markup {
    html! { span class=(format!("state state-{state}")) { (state) } }
}

/// A refusal as a page.
pub fn refused(refusal: &Refusal) -> Html<String> {
    let title = match refusal.status.as_u16() {
        404 => "Not found",
        400 => "That cannot be",
        401 => "Log in",
        429 => "Not so fast",
        403 => "Not allowed",
        503 => "Not now",
        _ => "That did not work",
    };
    let body = html! {
        p { (refusal.why) }
        p { a href="/" { "Back to what runs now" } }
    };
    bare(title, body)
}
