//! Stores that keep no sessions of shards yet.

use switchboard_proto::id::{ConnId, RoomName};
use switchboard_proto::shard::{LogPart, ShardRefusal};

use super::memory::MemorySessions;
use super::shards::*;
use crate::backend::BackendError;
use crate::backend::file::FileSessions;
use crate::op::Op;

fn unserved<T>() -> Op<Result<T, BackendError>> {
    Op::Ready(Err(BackendError("sessions of shards are not kept yet".into())))
}

macro_rules! unserved {
    ($store:ty) => {
        impl ShardStore for $store {
            fn begin_shard(&self, _: BeginShard) -> Op<Result<Result<BegunShard, ShardRefusal>, BackendError>> {
                unserved()
            }
            fn resume_shard(&self, _: ResumeShard) -> Op<Result<Option<ResumedShard>, BackendError>> {
                unserved()
            }
            fn detach_shard(&self, _: ShardNote, _: u64) -> Op<Result<Result<(), Fenced>, BackendError>> {
                unserved()
            }
            fn end_shard(&self, _: ConnId, _: Option<u64>) -> Op<Result<Option<EndedShard>, BackendError>> {
                unserved()
            }
            fn note_shards(&self, _: Vec<ShardNote>) -> Op<Result<(), BackendError>> {
                unserved()
            }
            fn acknowledge(&self, _: ConnId, _: u64, _: u64) -> Op<Result<Result<(), AckRefusal>, BackendError>> {
                unserved()
            }
            fn publish(&self, _: Publication) -> Op<Result<Option<PublishedEvent>, BackendError>> {
                unserved()
            }
            fn append(&self, _: Append) -> Op<Result<Option<u64>, BackendError>> {
                unserved()
            }
            fn read_log(&self, _: ReadLog) -> Op<Result<Result<LogPart, ReadRefusal>, BackendError>> {
                unserved()
            }
            fn fleet(&self, _: &Fleet, _: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
                unserved()
            }
            fn shard(&self, _: ConnId, _: u64) -> Op<Result<Option<ShardRecord>, BackendError>> {
                unserved()
            }
            fn shards(&self, _: u64) -> Op<Result<Vec<ShardRecord>, BackendError>> {
                unserved()
            }
            fn starts(&self, _: &str, _: StartLimits, _: u64) -> Op<Result<StartsLeft, BackendError>> {
                unserved()
            }
            fn add_shard_room(&self, _: ConnId, _: &RoomName, _: u64) -> Op<Result<bool, BackendError>> {
                unserved()
            }
            fn remove_shard_room(&self, _: ConnId, _: &RoomName) -> Op<Result<bool, BackendError>> {
                unserved()
            }
            fn shard_rooms(&self, _: ConnId) -> Op<Result<Vec<(RoomName, u64)>, BackendError>> {
                unserved()
            }
            fn sweep_shards(&self, _: u64) -> Op<Result<Vec<EndedShard>, BackendError>> {
                unserved()
            }
        }
    };
}

unserved!(MemorySessions);
unserved!(FileSessions);
