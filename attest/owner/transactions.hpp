// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "attest/owner/database.hpp"
#include "attest/owner/store.hpp"

namespace sev::attest::owner {

/// A transaction at work: the connection, and the audit log's end, which the transaction holds locked from its beginning.
class Work {
public:
    Work(Database& database, const StoreOptions& options);
    Database& database() noexcept { return database_; }
    /// Appends to the audit log, and a signature whenever one is due.
    void append(const AuditEvent& event, Time now);
    void sign(Time now);
    const AuditHead& head() const noexcept { return end_.head; }

private:
    friend class Transactions;
    struct End {
        AuditHead head;
        std::uint64_t signed_seq = 0;
    };
    void put(const AuditRecord& record);
    void save();
    Database& database_;
    const StoreOptions& options_;
    End end_;
};

/// Runs changes on one connection, each whole or not at all. Those that arrive while a commit is under way share the next one, so that many threads
/// wait for the disk together.
class Transactions {
public:
    Transactions(std::unique_ptr<Database> database, const StoreOptions& options) : database_{std::move(database)}, options_{options} {}
    /// Returns when `change` is durable. What `change` throws comes back here, and nothing of it is left behind. `change` may run on another thread.
    void run(const std::function<void(Work&)>& change);

private:
    struct Waiting {
        const std::function<void(Work&)>* change;
        std::exception_ptr error;
        bool done = false;
    };
    void run_all(const std::deque<Waiting*>& batch);
    static void run_one(Work& work, Waiting& waiting);
    std::unique_ptr<Database> database_;
    const StoreOptions& options_;
    std::mutex mutex_;
    std::condition_variable finished_;
    std::deque<Waiting*> queue_;
    bool leading_ = false;
};

} // namespace sev::attest::owner
