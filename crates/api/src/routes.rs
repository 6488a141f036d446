//! The table of routes, and what holds for all of them.

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post, put},
};
use domain::Fault;

use crate::{
    App, agents, attach, changes, door::Peer, environment, events, export, house, keys, log, models, problem::Failure,
    secrets, speech, tasks, turns, wire,
};

/// One line of docs/api.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: &'static str,
    /// Below `/api/v1`.
    pub path: &'static str,
}

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path,)*) => {
        /// Every route there is.
        pub const ROUTES: &[Route] = &[$(Route { method: stringify!($method), path: $path }),*];

        fn table() -> Router<App> {
            Router::new()$(
                .route(concat!("/api/v1", $path), $method($handler) as MethodRouter<App>))*
        }
    };
}

routes! {
    post "/tasks" => tasks::submit,
    get "/tasks" => tasks::list,
    get "/inbox" => tasks::inbox,
    get "/tasks/{id}" => tasks::show,
    get "/tasks/{id}/diff" => changes::diff,
    get "/tasks/{id}/blame" => changes::blame,
    post "/tasks/{id}/pull" => changes::pull,
    get "/tasks/{id}/log" => log::log,
    get "/tasks/{id}/journal" => export::journal,
    post "/tasks/{id}/comments" => speech::comment,
    post "/tasks/{id}/answer" => speech::answer,
    post "/tasks/{id}/plan" => speech::plan,
    post "/tasks/{id}/approve" => speech::approve,
    post "/tasks/{id}/reject" => speech::reject,
    post "/tasks/{id}/cancel" => speech::cancel,
    post "/tasks/{id}/retry" => speech::retry,
    post "/tasks/{id}/restore" => speech::restore,
    post "/tasks/{id}/fork" => turns::fork,
    post "/tasks/{id}/rewind" => turns::rewind,
    post "/tasks/{id}/replay" => turns::replay,
    get "/tasks/{id}/environment" => environment::of_task,
    post "/tasks/{id}/attach" => attach::attach,
    post "/tasks/{id}/preview" => attach::preview,
    get "/environment" => environment::show,
    post "/environment/build" => environment::build,
    post "/environment/check" => environment::check,
    get "/secrets" => secrets::list,
    put "/secrets/{name}" => secrets::set,
    delete "/secrets/{name}" => secrets::forget,
    get "/blobs/{id}" => changes::blob,
    get "/events" => events::events,
    get "/status" => house::status,
    get "/doctor" => house::doctor,
    post "/shutdown" => house::shutdown,
    get "/agents" => agents::list,
    get "/profiles" => agents::profiles,
    post "/models" => models::list,
    post "/models/try" => models::try_out,
    get "/budget" => models::budget,
    get "/keys" => keys::list,
    get "/keys/{provider}" => keys::show,
    put "/keys/{provider}" => keys::set,
    delete "/keys/{provider}" => keys::forget,
}

pub(crate) fn router(app: App) -> Router {
    table()
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// Lets in only whom the socket is for, and marks every answer.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.uid);
    let mut response = if app.people.lets_in(peer) {
        next.run(request).await
    } else {
        let fault = Fault::input("this daemon belongs to another user of this machine")
            .hint("start one of your own: any `overnight` command does it");
        Failure::with(StatusCode::FORBIDDEN, fault).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(wire::VERSION_HEADER, HeaderValue::from_static(app.version));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

async fn no_route(uri: Uri) -> Failure {
    Fault::not_found(format!("there is no route {}", uri.path()))
        .hint("docs/api.md lists the routes; all are below /api/v1")
        .into()
}

async fn no_method(method: Method, uri: Uri) -> Failure {
    let fault = Fault::input(format!("{method} is not possible on {}", uri.path()))
        .hint("docs/api.md lists the routes and their methods");
    Failure::with(StatusCode::METHOD_NOT_ALLOWED, fault)
}
