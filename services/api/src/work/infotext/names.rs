//! The names under which A1111's web interface knows schedulers and spreads of sigmas.

use diffusion::SchedulerKind;
use onnx::SigmaSpread;

/// A scheduler under the name that users of A1111's web interface know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedScheduler {
    /// The name shown.
    pub(crate) name: &'static str,
    /// The scheduler.
    pub(crate) kind: SchedulerKind,
    /// The spread that comes with it where none is asked for.
    pub(crate) sigmas: Option<SigmaSpread>,
    /// Further names.
    pub(crate) aliases: &'static [&'static str],
}

const fn named(
    name: &'static str,
    kind: SchedulerKind,
    sigmas: Option<SigmaSpread>,
    aliases: &'static [&'static str],
) -> NamedScheduler {
    NamedScheduler {
        name,
        kind,
        sigmas,
        aliases,
    }
}

const KARRAS: Option<SigmaSpread> = Some(SigmaSpread::Karras);
const EXPONENTIAL: Option<SigmaSpread> = Some(SigmaSpread::Exponential);

/// All samplers: first those of A1111, under its names and with its spreads, then the schedulers
/// that it does not have.
pub(crate) const ALL: [NamedScheduler; 21] = {
    use SchedulerKind as Kind;
    [
        named(
            "DPM++ 2M",
            Kind::DpmSolverMultistep,
            KARRAS,
            &["k_dpmpp_2m"],
        ),
        named("DPM++ SDE", Kind::DpmSolverSde, KARRAS, &["k_dpmpp_sde"]),
        named(
            "DPM++ 2M SDE",
            Kind::DpmSolverMultistepSde,
            EXPONENTIAL,
            &["k_dpmpp_2m_sde"],
        ),
        named(
            "Euler a",
            Kind::EulerAncestral,
            None,
            &["k_euler_a", "k_euler_ancestral"],
        ),
        named("Euler", Kind::Euler, None, &["k_euler"]),
        named("LMS", Kind::Lms, None, &["k_lms"]),
        named("Heun", Kind::Heun, None, &["k_heun"]),
        named("DPM2", Kind::Kdpm2, KARRAS, &["k_dpm_2"]),
        named("DPM2 a", Kind::Kdpm2Ancestral, KARRAS, &["k_dpm_2_a"]),
        named("DDIM", Kind::Ddim, None, &["ddim"]),
        named("PLMS", Kind::Pndm, None, &["plms", "pndm"]),
        named("UniPC", Kind::UniPc, None, &["unipc"]),
        named("LCM", Kind::Lcm, None, &["k_lcm"]),
        named("DPM++ 3M", Kind::DpmSolverMultistep3, None, &[]),
        named("DPM++ 2S", Kind::DpmSolverSinglestep, None, &[]),
        named("DDPM", Kind::Ddpm, None, &[]),
        named("DEIS", Kind::Deis, None, &[]),
        named("TCD", Kind::Tcd, None, &[]),
        named("Flow Match Euler", Kind::FlowMatchEuler, None, &[]),
        named("Probability Flow", Kind::ProbabilityFlow, None, &[]),
        named("Predictor Corrector", Kind::PredictorCorrector, None, &[]),
    ]
};

/// A spread under the names that users of A1111's web interface know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The name in requests.
    pub(crate) name: &'static str,
    /// The name shown.
    pub(crate) label: &'static str,
    /// The spread; none is the sampler's own.
    pub(crate) sigmas: Option<SigmaSpread>,
}

impl Schedule {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [
        Self::new("automatic", "Automatic", None),
        Self::new("uniform", "Uniform", Some(SigmaSpread::Uniform)),
        Self::new("karras", "Karras", KARRAS),
        Self::new("exponential", "Exponential", EXPONENTIAL),
        Self::new("beta", "Beta", Some(SigmaSpread::Beta)),
    ];

    const fn new(name: &'static str, label: &'static str, sigmas: Option<SigmaSpread>) -> Self {
        Self {
            name,
            label,
            sigmas,
        }
    }

    /// The schedule of a name or label.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|schedule| {
            schedule.name.eq_ignore_ascii_case(name) || schedule.label.eq_ignore_ascii_case(name)
        })
    }
}

impl NamedScheduler {
    /// The sampler of a name or alias.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let mut all = ALL.into_iter();
        all.find(|named| {
            let same = |known: &&str| known.eq_ignore_ascii_case(name);
            same(&named.name) || same(&named.kind.name()) || named.aliases.iter().any(same)
        })
    }
}

/// The sampler and the spread of a sampler's name, with the spread that older versions wrote into
/// the name ("DPM++ 2M Karras").
pub(crate) fn schedule_of(name: &str) -> Option<(NamedScheduler, Option<SigmaSpread>)> {
    if let Some(named) = NamedScheduler::find(name) {
        return Some((named, None));
    }
    let (name, spread) = name.rsplit_once(' ')?;
    let sigmas = Schedule::find(spread)?.sigmas?;
    Some((NamedScheduler::find(name)?, Some(sigmas)))
}

/// The name of a scheduler.
pub(super) fn name(kind: SchedulerKind) -> &'static str {
    let named = ALL.iter().find(|named| named.kind == kind);
    named.map_or_else(|| kind.name(), |named| named.name)
}

/// The label of a spread.
pub(super) fn label(sigmas: SigmaSpread) -> &'static str {
    let mut all = Schedule::ALL.iter();
    let schedule = all.find(|schedule| schedule.sigmas == Some(sigmas));
    schedule.map_or_else(|| sigmas.name(), |schedule| schedule.label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_spread_are_understood() {
        let (named, sigmas) = schedule_of("dpm++ 2m karras").unwrap();
        assert_eq!(named.kind, SchedulerKind::DpmSolverMultistep);
        assert_eq!(sigmas, KARRAS);
        let (named, sigmas) = schedule_of("Euler a").unwrap();
        assert_eq!((named.kind, sigmas), (SchedulerKind::EulerAncestral, None));
        assert_eq!(schedule_of("k_lms").unwrap().0.kind, SchedulerKind::Lms);
        assert_eq!(schedule_of("DPM fast"), None);
    }

    #[test]
    fn every_scheduler_that_leads_to_an_image_has_one_name() {
        for kind in SchedulerKind::GENERATIVE {
            let count = ALL.iter().filter(|named| named.kind == kind).count();
            assert_eq!(count, 1, "{kind}");
        }
    }
}
