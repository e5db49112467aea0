//! Random sequences. Most operations are independent; some form scenes, because reaching error-prone states takes
//! several in the right order.

use nightferry_core::step::Step;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::op::{Act, Damage, How, Op, Place, Script, Settings, Span, Trouble, Verb};

/// Every step at which operations are interrupted: all that exist.
pub(crate) const BREAKABLE: [Step; 22] = [
    Step::UploadBegun,
    Step::UploadStored,
    Step::Claimed,
    Step::CopyRead,
    Step::CopySent,
    Step::PartsBegun,
    Step::PartSent,
    Step::PartsSent,
    Step::PartsJoined,
    Step::Finishing,
    Step::Failing,
    Step::EvictionMarked,
    Step::EvictionBegun,
    Step::EvictionChecked,
    Step::EvictionDeleted,
    Step::EvictionForgetting,
    Step::RemovalBegun,
    Step::RemovalDeleted,
    Step::OrphanSeen,
    Step::SurplusMarked,
    Step::Condemning,
    Step::ScrubRead,
];

/// Any sequence.
pub(crate) fn script() -> impl Strategy<Value = Script> {
    settings().prop_flat_map(|settings| {
        let begin = vec(upload().prop_map(Op::Do), 1..=2);
        (begin, vec(scene(settings.in_parts), 1..=6)).prop_map(move |(mut ops, scenes)| {
            ops.extend(scenes.into_iter().flatten());
            Script { settings, ops }
        })
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<bool>(), weighted(0.2), weighted(0.2), weighted(0.2), any::<bool>(), weighted(0.35)).prop_map(
        |(evicts, grace, read_back, smallest_first, cache_on_read, in_parts)| Settings {
            evicts,
            grace,
            read_back,
            smallest_first,
            cache_on_read,
            in_parts,
        },
    )
}

/// A few operations.
fn scene(in_parts: bool) -> impl Strategy<Value = Vec<Op>> {
    prop_oneof![
        6 => vec(op(in_parts), 1..=2),
        2 => Just(vec![Op::Do(Act::RequestRun { retry: false }), Op::Do(Act::Work)]),
        1 => Just(vec![Op::Do(Act::RequestRun { retry: false }), Op::Do(Act::Worker)]),
        3 => taken_over(in_parts),
        1 => found_out(),
        1 => lost_while_evicted(),
        1 => lost_before_eviction(),
        1 => believed(),
        1 => exchanged(),
        1 => rewound(in_parts),
        2 => put_in_order(),
    ]
}

/// A worker hangs, its lease expires, another worker does its work, and it resumes.
fn taken_over(in_parts: bool) -> impl Strategy<Value = Vec<Op>> {
    (broken(How::Stall, in_parts), vec(op(in_parts), 0..=1)).prop_map(|(stalled, between)| {
        let mut ops = vec![Op::Do(Act::RequestRun { retry: false }), stalled.clone(), Op::Time(Span::Lease)];
        if let Op::Break(act, ..) = stalled {
            ops.push(Op::Do(act));
        }
        ops.extend(between);
        ops.push(Op::Resume(0));
        ops
    })
}

/// A copy is destroyed, and a pass detects it.
fn found_out() -> impl Strategy<Value = Vec<Op>> {
    (place(), any::<u8>(), any::<bool>()).prop_map(|(place, which, scrubbed)| {
        let found = if scrubbed { Act::Scrub } else { Act::Reconcile(place, true) };
        vec![Op::Destroy(place, which, Damage::Vanish), Op::Do(found)]
    })
}

/// A copy becomes unusable while the other one is being evicted.
fn lost_while_evicted() -> impl Strategy<Value = Vec<Op>> {
    (any::<u8>(), select(vec![Step::EvictionMarked, Step::EvictionBegun])).prop_map(|(which, step)| {
        vec![
            Op::Time(Span::Days),
            Op::Break(Act::Evict, step, How::Stall),
            Op::Destroy(Place::Cloud, which, Damage::Vanish),
            Op::Do(Act::Reconcile(Place::Cloud, true)),
            Op::Resume(0),
        ]
    })
}

/// A copy is destroyed, and nobody has noticed it when the other one may be evicted.
fn lost_before_eviction() -> impl Strategy<Value = Vec<Op>> {
    any::<u8>().prop_map(|which| {
        vec![
            Op::Do(Act::RequestRun { retry: false }),
            Op::Do(Act::Work),
            Op::Time(Span::Days),
            Op::Destroy(Place::Cloud, which, Damage::Vanish),
            Op::Do(Act::Evict),
        ]
    })
}

/// A store lies for some time, and then the local copies may be evicted.
fn believed() -> impl Strategy<Value = Vec<Op>> {
    Just(vec![
        Op::Fault(Place::Cloud, Trouble::FalseChecksums),
        Op::Do(Act::RequestRun { retry: false }),
        Op::Do(Act::Work),
        Op::Heal(Place::Cloud),
        Op::Do(Act::Evict),
    ])
}

/// A bucket is exchanged during some operations: those that copy and evict, or any.
fn exchanged() -> impl Strategy<Value = Vec<Op>> {
    let evicting = vec![Act::RequestRun { retry: false }, Act::Work, Act::Evict];
    let acts = prop_oneof![2 => Just(evicting), 1 => vec(act(), 1..=3)];
    let place = select(vec![Place::Cloud, Place::Cloud, Place::Local]);
    (place, acts).prop_map(|(place, acts)| vec![Op::Exchanged(place, acts)])
}

/// Files are uploaded, copied and evicted after a backup of the database, which is then restored.
fn rewound(in_parts: bool) -> impl Strategy<Value = Vec<Op>> {
    let more = || vec(op(in_parts), 0..=1);
    (vec(upload(), 0..=1), more(), more()).prop_map(|(uploads, before, after)| {
        let mut ops = vec![Op::BackUp];
        ops.extend(uploads.into_iter().map(Op::Do));
        let acts = [Act::RequestRun { retry: false }, Act::Work, Act::Evict];
        ops.extend(acts.into_iter().map(Op::Do));
        ops.extend(before);
        ops.push(Op::Rewind);
        ops.extend(after);
        ops
    })
}

/// A repair that is interrupted.
fn put_in_order() -> impl Strategy<Value = Vec<Op>> {
    let how = select(vec![How::Crash, How::Stall]);
    let kind = select(vec![
        Step::RemovalBegun,
        Step::RemovalDeleted,
        Step::OrphanSeen,
        Step::SurplusMarked,
        Step::Condemning,
        Step::Failing,
        Step::EvictionDeleted,
    ]);
    (kind, how, place(), any::<u8>()).prop_map(|(step, how, place, which)| {
        let reconcile = Act::Reconcile(place, true);
        let run = Op::Do(Act::RequestRun { retry: false });
        let (mut before, act) = match step {
            Step::RemovalBegun | Step::RemovalDeleted => (vec![Op::Do(Act::Purge(which))], Act::Reap),
            Step::OrphanSeen => (vec![Op::Stray(place)], reconcile),
            Step::SurplusMarked => (vec![Op::Surplus(place, which)], reconcile),
            Step::Condemning => (vec![Op::Destroy(place, which, Damage::Vanish)], reconcile),
            Step::Failing => (vec![Op::Fault(Place::Cloud, Trouble::WrongBytes), run], Act::Work),
            _ => (vec![Op::Time(Span::Days)], Act::Evict),
        };
        if matches!(step, Step::OrphanSeen) {
            before.push(Op::Newborn(place));
        }
        before.push(Op::Break(act, step, how));
        before
    })
}

fn weighted(probability: f64) -> impl Strategy<Value = bool> {
    prop::bool::weighted(probability)
}

fn op(in_parts: bool) -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => act().prop_map(Op::Do),
        5 => broken(How::Crash, in_parts),
        6 => broken(How::Stall, in_parts),
        5 => any::<u8>().prop_map(Op::Resume),
        6 => select(vec![Span::Short, Span::Lease, Span::Lease, Span::Days]).prop_map(Op::Time),
        4 => (place(), trouble()).prop_map(|(place, trouble)| Op::Fault(place, trouble)),
        1 => place().prop_map(Op::Down),
        2 => place().prop_map(Op::Heal),
        3 => (place(), any::<u8>(), select(vec![Damage::Vanish, Damage::Vanish, Damage::Flip, Damage::Truncate]))
            .prop_map(|(place, which, damage)| Op::Destroy(place, which, damage)),
        1 => (place(), any::<u8>()).prop_map(|(place, which)| Op::GiveBack(place, which)),
        1 => place().prop_map(Op::Stray),
        1 => place().prop_map(Op::Newborn),
        1 => (place(), any::<u8>()).prop_map(|(place, which)| Op::Surplus(place, which)),
        1 => select(vec![-30_i8, -2, 2, 48]).prop_map(Op::Clock),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    select(Place::ALL.to_vec())
}

fn upload() -> impl Strategy<Value = Act> {
    (0..3_u8, 0..3000_u16).prop_map(|(name, size)| Act::Upload { name, size })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => upload(),
        1 => any::<u8>().prop_map(Act::Trash),
        1 => any::<u8>().prop_map(Act::Restore),
        1 => any::<u8>().prop_map(Act::Purge),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(file, pinned)| Act::Pin(file, pinned)),
        2 => any::<u8>().prop_map(Act::Read),
        6 => weighted(0.3).prop_map(|retry| Act::RequestRun { retry }),
        1 => Just(Act::CancelRun),
        9 => Just(Act::Work),
        1 => Just(Act::Worker),
        3 => any::<u8>().prop_map(Act::Fetch),
        3 => Just(Act::WorkFetches),
        2 => Just(Act::Reap),
        1 => Just(Act::Repair),
        4 => Just(Act::Evict),
        2 => Just(Act::Watermark),
        3 => (place(), weighted(0.8)).prop_map(|(place, apply)| Act::Reconcile(place, apply)),
        2 => Just(Act::Scrub),
    ]
}

/// An operation with a step that it can reach.
fn broken(how: How, in_parts: bool) -> impl Strategy<Value = Op> {
    use Step::{
        Claimed, CopyRead, CopySent, EvictionBegun, EvictionChecked, EvictionDeleted, EvictionForgetting,
        EvictionMarked, Failing, Finishing, PartSent, PartsBegun, PartsJoined, PartsSent, ScrubRead,
        UploadBegun, UploadStored,
    };
    let copying = move || {
        select(if in_parts {
            vec![Claimed, PartsBegun, PartSent, PartsSent, PartsJoined, Finishing, Failing]
        } else {
            vec![Claimed, CopyRead, CopySent, Finishing, Finishing, Failing]
        })
    };
    let evicting =
        || select(vec![EvictionMarked, EvictionBegun, EvictionChecked, EvictionDeleted, EvictionForgetting]);
    let of = |act: Act| move |step| (act, step);
    let which = prop_oneof![
        2 => (upload(), select(vec![UploadBegun, UploadStored])),
        6 => copying().prop_map(of(Act::Work)),
        3 => copying().prop_map(of(Act::WorkFetches)),
        4 => evicting().prop_map(of(Act::Evict)),
        1 => evicting().prop_map(of(Act::Watermark)),
        1 => Just((Act::Scrub, ScrubRead)),
    ];
    which.prop_map(move |(act, step)| Op::Break(act, step, how))
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let verb = || select(vec![Verb::Any, Verb::Put, Verb::Get, Verb::Head, Verb::Delete]);
    prop_oneof![
        3 => verb().prop_map(Trouble::InternalError),
        1 => verb().prop_map(Trouble::SlowDown),
        1 => verb().prop_map(Trouble::ExpiredToken),
        2 => verb().prop_map(Trouble::ResetRequest),
        1 => Just(Trouble::ResetResponse),
        1 => Just(Trouble::FlipRequest),
        2 => Just(Trouble::FlipResponse),
        2 => Just(Trouble::Swallow),
        1 => Just(Trouble::HiddenError),
        3 => Just(Trouble::WrongBytes),
        2 => Just(Trouble::FalseChecksums),
    ]
}
