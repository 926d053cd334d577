//! Routes of users: ending their logins.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::proto::call::CallError;

use super::Shared;
use super::answer::{Answered, Code, ErrorBody, ok};
use super::input::FromPath;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(revoke))
}

/// Logins that ended.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"user": "u1", "tokens": 3, "connections": 2}))]
struct Revoked {
    /// The id of the user.
    user: String,
    /// Tokens that are revoked.
    tokens: usize,
    /// Connections that end, of all nodes.
    connections: usize,
}

/// End all logins of a user
///
/// All tokens of the user are revoked, and connections that logged in end, on all nodes. The password stays as it is.
#[utoipa::path(delete, path = "/v1/users/{user}/tokens", tag = "users", operation_id = "revokeTokens",
    params(("user" = String, Path, description = "The user's id.")),
    responses(
        (status = 200, description = "The logins have ended.", body = Revoked),
        (status = 404, description = "`user_not_found`: no such user is configured.", body = ErrorBody)))]
async fn revoke(State(shared): State<Arc<Shared>>, FromPath(user): FromPath<String>) -> Answered {
    let revoked = shared.node.revoke_tokens(&user).await.map_err(|error| match error {
        CallError::NoSuchUser => Code::UserNotFound.with("no such user: the id of a configured user is needed"),
        error => error.into(),
    })?;
    ok(&Revoked { user, tokens: revoked.tokens, connections: revoked.connections })
}
