// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

/// What a daemon gives up before it listens. All of it lasts until the process ends; each throws Error{Fault::system} when the kernel refuses.
namespace sev::service {

/// No core file (RLIMIT_CORE 0) and no ptrace or /proc access by others of the same user (PR_SET_DUMPABLE 0).
void no_core_dumps();
/// Neither this process nor its children gain privileges by exec (PR_SET_NO_NEW_PRIVS).
void no_new_privileges();
/// mlockall for what is and what will be mapped. RLIMIT_MEMLOCK must allow it; the Error says how much is needed.
void lock_all_memory();
/// The same, but each page only once it is touched, so that what is merely reserved costs nothing; for a process that may lock without limit, by
/// CAP_IPC_LOCK or an RLIMIT_MEMLOCK that is unlimited or can be made so. Memory that is large and holds no secret is unlocked by whoever maps it.
void lock_touched_memory();

/// System calls that any of the house's daemons needs once it listens: memory, threads, time, signals, files, sockets, epoll. No exec, no ptrace, no
/// mount.
std::span<const std::string_view> daemon_calls();
/// Installs a seccomp filter for all threads of the process (call it before they start): what is in neither list fails with EPERM; what no daemon
/// here ever has a reason to do (ptrace, process_vm_readv, kexec, modules, mount, bpf, perf, namespaces) kills the process. Names that this
/// architecture lacks are skipped. Implies no_new_privileges. Throws Error{Fault::bug} for a name that is on the killing list.
void allow_calls(std::span<const std::string_view> calls, std::span<const std::string_view> more = {});

} // namespace sev::service
