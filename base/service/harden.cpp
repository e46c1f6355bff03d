// SPDX-License-Identifier: Apache-2.0
#include "base/service/harden.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

#include "base/error.hpp"

namespace sev::service {
namespace {

constexpr auto common = std::to_array<std::string_view>({
    // memory
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "mlock",
    "mlock2",
    "munlock",
    "mlockall",
    "munlockall",
    "memfd_create",
    "msync",
    // threads, and what a C library does about them
    "clone",
    "clone3",
    "futex",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "sched_yield",
    "sched_getaffinity",
    "exit",
    "exit_group",
    "gettid",
    "getpid",
    "getppid",
    "tgkill",
    "set_tid_address",
    "arch_prctl",
    "membarrier",
    "restart_syscall",
    "getcpu",
    // signals
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "rt_sigpending",
    "sigaltstack",
    "signalfd4",
    "kill",
    // time and chance
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "time",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "getrandom",
    // files
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "open",
    "openat",
    "close",
    "close_range",
    "lseek",
    "fstat",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "access",
    "faccessat",
    "faccessat2",
    "getdents64",
    "readlink",
    "readlinkat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "flock",
    "fcntl",
    "fchmod",
    "fchmodat",
    "chmod",
    "fchown",
    "fchownat",
    "chown",
    "umask",
    "getcwd",
    "statfs",
    "fstatfs",
    "utimensat",
    "ioctl",
    "dup",
    "dup2",
    "dup3",
    "pipe2",
    "copy_file_range",
    // sockets and waiting
    "socket",
    "socketpair",
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "shutdown",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd2",
    "sendfile",
    // who we are, what we may
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "uname",
});
constexpr auto limits_and_children =
    std::to_array<std::string_view>({"prlimit64", "getrlimit", "getrusage", "sysinfo", "wait4", "waitid", "prctl", "seccomp"});

constexpr auto deadly = std::to_array<std::string_view>({
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "mount",
    "umount2",
    "pivot_root",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "bpf",
    "perf_event_open",
    "unshare",
    "setns",
    "add_key",
    "request_key",
    "keyctl",
    "swapon",
    "swapoff",
    "reboot",
    "iopl",
    "ioperm",
    "acct",
    "quotactl",
    "open_by_handle_at",
    "userfaultfd",
    "chroot",
});

struct Release {
    void operator()(void* filter) const noexcept { ::seccomp_release(filter); }
};

void add(void* filter, std::uint32_t action, std::string_view name) {
    const int number = ::seccomp_syscall_resolve_name(std::string{name}.c_str());
    if (number == __NR_SCMP_ERROR || number < 0) return; // not on this architecture
    const int result = ::seccomp_rule_add(filter, action, number, 0);
    if (result != 0 && result != -EEXIST) throw Error{Fault::system, fmt::format("seccomp: {}: {}", name, std::strerror(-result))};
}

[[noreturn]] void memory_not_locked(int reason) {
    struct rlimit limit {};
    ::getrlimit(RLIMIT_MEMLOCK, &limit);
    throw Error{Fault::system, fmt::format("locking memory: {} (RLIMIT_MEMLOCK is {} bytes)", std::strerror(reason), limit.rlim_cur),
                "LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited"};
}

bool may_lock_without_limit() {
    struct __user_cap_header_struct head {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    std::array<struct __user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> held{};
    return ::syscall(SYS_capget, &head, held.data()) == 0 && (held[0].effective & (1U << CAP_IPC_LOCK)) != 0;
}

void lock_memory(int how) {
    if (::mlockall(how) != 0) memory_not_locked(errno);
}

} // namespace

void no_core_dumps() {
    const struct rlimit none {.rlim_cur = 0, .rlim_max = 0};
    if (::setrlimit(RLIMIT_CORE, &none) != 0) throw Error{Fault::system, fmt::format("no core dumps: {}", std::strerror(errno))};
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) throw Error{Fault::system, fmt::format("not dumpable: {}", std::strerror(errno))};
}

void no_new_privileges() {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) throw Error{Fault::system, fmt::format("no new privileges: {}", std::strerror(errno))};
}

void lock_all_memory() { lock_memory(MCL_CURRENT | MCL_FUTURE); }

void lock_touched_memory() {
    const struct rlimit unlimited {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    // With less, what is mapped later could fail for memory that is merely reserved.
    if (::setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0 && !may_lock_without_limit()) memory_not_locked(EPERM);
    lock_memory(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

std::span<const std::string_view> daemon_calls() { return common; }

void allow_calls(std::span<const std::string_view> calls, std::span<const std::string_view> more) {
    const std::unique_ptr<void, Release> filter{::seccomp_init(SCMP_ACT_ERRNO(EPERM))};
    if (!filter) throw Error{Fault::system, "seccomp: no filter can be made"};
    for (const auto list : {calls, more, std::span<const std::string_view>{limits_and_children}}) {
        for (const std::string_view name : list) {
            require(std::ranges::find(deadly, name) == deadly.end(), "a deadly system call is not allowed");
            add(filter.get(), SCMP_ACT_ALLOW, name);
        }
    }
    for (const std::string_view name : deadly) add(filter.get(), SCMP_ACT_KILL_PROCESS, name);
    if (const int result = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1); result != 0)
        throw Error{Fault::system, fmt::format("seccomp: all threads: {}", std::strerror(-result))};
    if (const int result = ::seccomp_load(filter.get()); result != 0) throw Error{Fault::system, fmt::format("seccomp: {}", std::strerror(-result))};
}

} // namespace sev::service
