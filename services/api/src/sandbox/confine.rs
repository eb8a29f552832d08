//! What the child gives up before it reads untrusted bytes.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use serde::{Deserialize, Serialize};

use super::ChildOptions;

/// Which fences the kernel granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Limits on memory, processor time, files and processes.
    pub resource_limits: bool,
    /// No sockets, no programs, no opening of files: system calls outside a short list fail.
    pub system_call_filter: bool,
}

/// Gives up what parsing does not need. Fences that the kernel does not grant are reported, not
/// fatal: the others still hold.
pub(super) fn confine(options: &ChildOptions) -> Confinement {
    Confinement {
        resource_limits: limit_resources(options),
        system_call_filter: filter_system_calls().is_ok(),
    }
}

fn limit_resources(options: &ChildOptions) -> bool {
    let limits = [
        (Resource::As, options.memory_bytes_max),
        (Resource::Cpu, options.cpu_s_max),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // Standard input, output and error are open already; no further file can be.
        (Resource::Nofile, 3),
        (Resource::Nproc, 0),
    ];
    limits.into_iter().all(|(resource, most)| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )
        .is_ok()
    })
}

/// The system calls that decoding needs: reading and writing what is open, memory, time,
/// randomness, ending. Everything else fails with `EPERM`.
const ALLOWED: [libc::c_long; 27] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tgkill,
    libc::SYS_sched_yield,
    libc::SYS_lseek,
    libc::SYS_ppoll,
];

fn filter_system_calls() -> Result<(), Box<dyn std::error::Error>> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let rules: BTreeMap<i64, _> = ALLOWED.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}
