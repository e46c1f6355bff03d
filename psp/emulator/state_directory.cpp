// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include "psp/emulator/state_file.hpp"

namespace sev::psp::emulator {
namespace {

namespace fs = std::filesystem;

std::string shown(const Path& path) { return printable(path.string(), 4096); }

[[noreturn]] void system_error(const Path& path, std::string_view doing, int error_number) {
    throw Error{sev::Fault::system, fmt::format("{}: {}: {}", shown(path), doing, std::strerror(error_number))};
}

/// Opens and locks `lock`, which is made where it is not there yet.
Fd take_lock(const Path& directory) {
    const Path path = directory / "lock";
    Fd lock{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!lock) system_error(path, "open", errno);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno == EWOULDBLOCK)
        throw Error{sev::Fault::system, fmt::format("{}: the emulated PSP is in use by another process", shown(directory)),
                    "stop that process, or name another state directory"};
    system_error(path, "lock", errno);
}

/// Keys may not be where others can read or change them.
void must_be_private(const Path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) system_error(path, "stat", errno);
    if ((status.st_mode & 077) != 0)
        throw Error{sev::Fault::usage, fmt::format("{}: mode is {:04o}, want no access for group and others", shown(path), status.st_mode & 07777),
                    fmt::format("chmod go= {}", shown(path))};
}

/// Nothing but a lock, which a process that was stopped while it made a chip may have left.
bool is_unused(const Path& path) {
    for (const auto& entry : fs::directory_iterator{path})
        if (entry.path().filename() != "lock") return false;
    return true;
}

/// What a process that was killed while it wrote the state has left behind; it holds keys. Only under the lock.
void remove_unfinished(const Path& path) {
    for (const auto& entry : fs::directory_iterator{path})
        if (entry.path().filename().string().starts_with(".state.")) fs::remove(entry.path());
}

void refuse_chip(const Path& path) {
    if (StateDirectory::holds_chip(path))
        throw Error{sev::Fault::usage, fmt::format("{}: holds an emulated PSP already, and is left as it is", shown(path)),
                    "name another state directory"};
}

/// std::filesystem's errors become ours.
template <class Body>
decltype(auto) translated(const Path& path, Body&& body) {
    try {
        return std::forward<Body>(body)();
    } catch (const fs::filesystem_error& error) {
        throw Error{sev::Fault::system, fmt::format("{}: {}", shown(path), error.code().message())};
    }
}

} // namespace

StateDirectory StateDirectory::create(const Path& path) {
    return translated(path, [&] {
        refuse_chip(path);
        if (::mkdir(path.c_str(), 0700) != 0) {
            if (errno != EEXIST) system_error(path, "create", errno);
            if (!fs::is_directory(path)) throw Error{sev::Fault::usage, fmt::format("{}: is not a directory", shown(path))};
            if (!is_unused(path))
                throw Error{sev::Fault::usage, fmt::format("{}: is not empty, and is left as it is", shown(path)),
                        "name a new or an empty directory"};
            if (::chmod(path.c_str(), 0700) != 0) system_error(path, "chmod", errno);
        }
        Fd lock = take_lock(path);
        // another process may have been first while this one waited for nothing
        refuse_chip(path);
        return StateDirectory{path, std::move(lock)};
    });
}

StateDirectory StateDirectory::open(const Path& path) {
    return translated(path, [&] {
        if (!holds_chip(path)) throw Error{sev::Fault::usage, fmt::format("{}: no emulated PSP here", shown(path)), "make one first"};
        must_be_private(path);
        must_be_private(path / "state");
        Fd lock = take_lock(path);
        remove_unfinished(path);
        return StateDirectory{path, std::move(lock)};
    });
}

bool StateDirectory::holds_chip(const Path& path) {
    struct stat status {};
    if (::lstat((path / "state").c_str(), &status) == 0) return true;
    // what cannot be looked at must not be taken for absent
    if (errno != ENOENT && errno != ENOTDIR) system_error(path / "state", "stat", errno);
    return false;
}

ChipState StateDirectory::load() const {
    const Path file = path_ / "state";
    const SecretBytes bytes = read_secret(file, state_limit_bytes);
    ChipState state = parse_state(bytes.reveal(), shown(file));
    auto problem = state.chip.inconsistency();
    if (!problem && state.flash) problem = state.flash->inconsistency(state.chip.cek);
    if (problem) throw Error{sev::Fault::malformed, fmt::format("{}: {}", shown(file), *problem), "restore the state directory from a copy"};
    return state;
}

void StateDirectory::save(const Chip& chip, const PlatformKeys* flash) const {
    write_file(path_ / "state", serialize_state(chip, flash).reveal(), Visibility::secret, Existing::replace);
}

} // namespace sev::psp::emulator
