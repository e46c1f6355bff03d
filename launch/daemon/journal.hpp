// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "attest/protocol/bundle.hpp"
#include "base/file.hpp"
#include "launch/daemon/record.hpp"

namespace sev::daemon {

/// The daemon's memory across its own death: DIRECTORY/journal.sqlite (WAL, synchronous=FULL), mode 0600. Every function returns when what it wrote
/// is on the disk, and throws Error{Fault::system} "journal: …" when it is not (disk full, read-only); nothing of it was written then. What would
/// not be read again, such as a verdict of more than 1 MiB, is not written: Error{Fault::bug}. Who reads waits for no writer, nor the other way
/// round. Thread-safe.
class Journal {
public:
    /// Launches that have ended are kept, the newest so many.
    static constexpr std::size_t ended_limit = 1000;
    /// Bundles are kept, of launches that have not ended and then the newest, as long as their texts together are no longer than this.
    static constexpr std::size_t bundle_limit_bytes = 64U << 20;
    /// Makes or opens it. Throws Error{Fault::system} when it cannot, or another process has it; Error{Fault::malformed} for a file that is no
    /// journal, a damaged one, or one of a version it does not know: never a silent new one. One of version 1, without bundles, is brought up.
    explicit Journal(const Path& directory);
    /// As above, with another limit: for tests.
    Journal(const Path& directory, std::size_t bundles_bytes);
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;
    ~Journal();

    /// Stores a new launch and returns its id, which no other ever had.
    std::uint64_t add(const Record& record);
    /// Stores the record as it is now, with its steps.
    void save(const Record& record);
    /// Marks a session as used by this launch. False when it was used before, by any launch ever.
    bool use_session(const attest::SessionId& session, std::uint64_t launch);
    /// Throws Error{Fault::system} for a row that is not as `save` writes it.
    std::optional<Record> find(std::uint64_t id) const;
    /// Those that have not ended, oldest first. Throws as `find` does.
    std::vector<Record> unended() const;
    /// At most `limit` launches, the newest first; of this name alone, if one is given. Without steps and verdicts, which are by far the most of a
    /// launch. A row that cannot be read is left out, and told once.
    std::vector<Record> newest(std::size_t limit, const std::optional<std::string>& name) const;
    /// Hears of a row that `newest` leaves out, and why; must not ask the journal. In the caller's thread.
    using Unreadable = std::function<void(const std::string& what)>;
    void on_unreadable(Unreadable unreadable);

    /// Keeps what a launch's owner saw, with the time of the measurement; one a launch, the last.
    void keep_bundle(std::uint64_t launch, const attest::Bundle& bundle, attest::Time measured);
    struct Kept {
        attest::Bundle bundle;
        attest::Time measured{};
    };
    /// nullopt when there is none: not measured yet, or so long ago that others took its room. Throws Error{Fault::system} for a row that is not
    /// as `keep_bundle` writes it.
    std::optional<Kept> bundle(std::uint64_t launch) const;

    /// Guest contexts that the PSP would not let go of: to be tried again. A handle is there once.
    struct Stuck {
        psp::GuestHandle handle{};
        psp::Asid asid{}; // 0: it has none any more
        std::string reason;
        friend bool operator==(const Stuck&, const Stuck&) = default;
    };
    void add_stuck(const Stuck& stuck);
    void remove_stuck(psp::GuestHandle handle);
    std::vector<Stuck> stuck() const;

private:
    struct Database;
    void open_to_write(const Path& file);
    void open_to_read(const Path& file);
    mutable std::mutex mutex_; // of what writes
    std::size_t bundles_bytes_;
    Fd lock_;
    std::unique_ptr<Database> database_;
    mutable std::mutex reading_mutex_; // of all below: what reads
    std::unique_ptr<Database> reading_;
    Unreadable unreadable_;
    mutable std::set<std::int64_t> told_;
};

} // namespace sev::daemon
