//! Tokens of the control room, and connections that only read.

use super::house::Cluster;
use crate::{Error, NewRoomToken, RoomRole};

fn token(name: &str, digest: u8) -> NewRoomToken {
    NewRoomToken {
        name: name.into(),
        role: RoomRole::User,
        digest: [digest; 32],
        made_by: "ann".into(),
        expires_at: None,
    }
}

#[tokio::test]
async fn a_token_holds_until_it_is_revoked() {
    let cluster = Cluster::start();
    let db = cluster.open().await;
    let id = db.create_room_token(&token("uma", 1)).await.unwrap();
    db.create_room_token(&token("uma", 2)).await.unwrap();
    let over = time::OffsetDateTime::now_utc() - time::Duration::SECOND;
    let expired = NewRoomToken { expires_at: Some(over), ..token("old", 3) };
    db.create_room_token(&expired).await.unwrap();
    assert!(db.create_room_token(&token("uma", 1)).await.is_err(), "the same secret");
    for name in ["", "a b", "a\u{202e}b"] {
        assert!(matches!(db.create_room_token(&token(name, 4)).await, Err(Error::Invalid(_))));
    }
    assert_eq!(db.valid_room_tokens().await.unwrap().len(), 2);
    db.note_room_token(id).await.unwrap();
    let all = db.room_tokens().await.unwrap();
    assert_eq!(all.iter().filter(|token| token.used_on.is_some()).count(), 1);
    assert_eq!(db.revoke_room_tokens(&crate::short(&id)).await.unwrap(), 1);
    assert_eq!(db.revoke_room_tokens(&id.to_string()).await.unwrap(), 0, "it was before");
    assert_eq!(db.revoke_room_tokens("uma").await.unwrap(), 1);
    assert!(matches!(db.revoke_room_tokens("eve").await, Err(Error::NotFound { .. })));
    assert!(db.valid_room_tokens().await.unwrap().is_empty());
}

#[tokio::test]
async fn who_only_looks_changes_nothing() {
    let cluster = Cluster::start();
    let db = cluster.open().await;
    let reading = db.reading();
    assert!(reading.valid_room_tokens().await.unwrap().is_empty());
    let refused = reading.create_room_token(&token("eve", 1)).await;
    assert!(refused.unwrap_err().to_string().contains("read-only"));
    sqlx::raw_sql("create role palette_reader nologin; grant select on runs to palette_reader")
        .execute(&db.pool)
        .await
        .unwrap();
    let role = |db: &crate::Database| {
        let pool = db.pool.clone();
        async move {
            sqlx::query_scalar::<_, String>("select current_user::text")
                .fetch_one(&pool)
                .await
                .unwrap()
        }
    };
    assert_eq!(role(&db.reading()).await, "palette_reader");
    assert_ne!(role(&db).await, "palette_reader");
}
