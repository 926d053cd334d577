//! Routes and their description, made of the same list, so that neither can be there without the other.

use std::sync::Arc;

use axum::Router;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Content, Info, License, OpenApi, Ref, ResponseBuilder, SecurityRequirement, Tag,
};
use utoipa_axum::router::OpenApiRouter;

use super::access::guard;
use super::answer::{ApiError, Code};
use super::{Shared, commands, connections, gateway, nodes, rooms, users};

/// All routes, behind the guard.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let (router, _) = all().split_for_parts();
    let guard = axum::middleware::from_fn_with_state(Arc::clone(&shared), guard);
    let routes = router.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(shared);
    // Around a router of its own: layers of the one with the routes do not see the header `Allow`, which is added behind
    // them and would tell without the token which paths there are.
    Router::new().fallback_service(routes).layer(guard)
}

/// The description of the API, as OpenAPI 3.1 in JSON: what `GET /v1/openapi.json` answers.
///
/// # Errors
///
/// None that is known: whatever the description is made of can be written.
pub fn openapi_json() -> serde_json::Result<String> {
    let (_, mut api) = all().split_for_parts();
    for (path, item) in &mut api.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            add_common_answers(path, operation);
        }
    }
    api.to_json()
}

fn all() -> OpenApiRouter<Arc<Shared>> {
    let mut api = OpenApi::new(info(), utoipa::openapi::Paths::new());
    let bearer = SecurityScheme::Http(Http::builder().scheme(HttpAuthScheme::Bearer).build());
    api.components = Some(ComponentsBuilder::new().security_scheme(TOKEN, bearer).build());
    api.security = Some(vec![SecurityRequirement::new(TOKEN, [""; 0])]);
    api.tags = Some(vec![
        tag("rooms", "Rooms, patterns, members."),
        tag("connections", "Connections of this node."),
        tag("users", "Logins of users."),
        tag("gateway", "Sessions of bots' shards."),
        tag("commands", "Client commands: what the server asks clients to do."),
        tag("node", "The process."),
    ]);
    let routes = [
        rooms::routes(),
        connections::routes(),
        users::routes(),
        gateway::routes(),
        commands::routes(),
        nodes::routes(),
    ];
    routes.into_iter().fold(OpenApiRouter::with_openapi(api), OpenApiRouter::merge)
}

fn info() -> Info {
    let mut info = Info::new("Switchboard admin API", nodes::VERSION);
    info.description = Some(ABOUT.to_owned());
    info.license = Some(License::builder().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build());
    info
}

fn tag(name: &str, about: &str) -> Tag {
    let mut tag = Tag::new(name);
    tag.description = Some(about.to_owned());
    tag
}

/// Answers that a route need not mention, because every one like it has them.
fn add_common_answers(path: &str, operation: &mut Operation) {
    let is_open = path == "/livez" || path == "/readyz";
    let is_asked = path.starts_with("/v1/") && path != "/v1/openapi.json";
    let has_body = operation.request_body.is_some();
    for (applies, status, about) in [
        (is_asked, "400", "`invalid_request`: the message says what does not fit."),
        (!is_open, "401", "`unauthenticated`: no token, or a wrong one."),
        (true, "403", "`origin_not_allowed`: asked by a page of another host."),
        (has_body, "408", "`timed_out`: the body did not come within `admin.body_timeout`."),
        (has_body, "413", "`too_large`: the body is larger than `admin.max_body_bytes`."),
        (has_body, "415", "`unsupported_media_type`: the body is not `application/json`."),
        (!is_open, "429", "`rate_limited`: too many requests with a wrong token."),
        (is_asked, "503", "`unavailable`: something behind the server failed; its log has the cause."),
    ] {
        if applies {
            operation.responses.responses.entry(status.to_owned()).or_insert_with(|| {
                let content = Content::builder().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
                ResponseBuilder::new().description(about).content("application/json", content).build().into()
            });
        }
    }
}

/// A text, a number, true or false.
pub(super) fn scalar() -> Object {
    one_of([Type::String, Type::Number, Type::Boolean])
}

/// Server-only state.
pub(super) fn state() -> Object {
    ObjectBuilder::new().additional_properties(Some(Schema::Object(scalar()))).build()
}

/// What changes about server-only state: null removes.
pub(super) fn state_change() -> Object {
    let value = one_of([Type::String, Type::Number, Type::Boolean, Type::Null]);
    ObjectBuilder::new().additional_properties(Some(Schema::Object(value))).build()
}

/// Attributes and their values, or null.
pub(super) fn attributes() -> Object {
    let mut attributes = state();
    attributes.schema_type = SchemaType::from_iter([Type::Object, Type::Null]);
    attributes
}

fn one_of<const N: usize>(types: [Type; N]) -> Object {
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}

async fn no_such_path() -> ApiError {
    Code::NotFound.with("there is no such path; GET /v1/openapi.json lists all")
}

async fn no_such_method() -> ApiError {
    Code::MethodNotAllowed.with("this path has other methods; the header Allow names them")
}

/// The name of the security scheme.
const TOKEN: &str = "token";

const ABOUT: &str = "\
Rooms, members, connections, client commands and figures of a Switchboard server.

Every request needs `Authorization: Bearer TOKEN`, with the token of `admin.token`; only `/livez` and `/readyz` do without.
Bodies are JSON, `Content-Type: application/json`; members that are not described are refused. Whatever is not 2xx has
a body `{\"error\":{\"code\":…,\"message\":…}}`. Lists come in parts: repeat with `cursor` until it is null.";
