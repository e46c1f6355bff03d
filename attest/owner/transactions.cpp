// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/transactions.hpp"

#include <fmt/format.h>

namespace sev::attest::owner {
namespace {

constexpr std::size_t batch_limit = 64;

} // namespace

Work::Work(Database& database, const StoreOptions& options) : database_{database}, options_{options} {
    const auto found = database.run(fmt::format("SELECT seq, hash, signed_seq FROM audit_head WHERE one = 1{}", database.lock_clause()));
    if (found.rows.size() != 1) throw Error{Fault::system, "store: the audit log has lost its head"};
    const SqlRow& row = found.rows.front();
    end_.head = {.seq = static_cast<std::uint64_t>(row.integer(0)), .hash = unhex<32>(row.text(1), "store: audit head")};
    end_.signed_seq = static_cast<std::uint64_t>(row.integer(2));
}

void Work::put(const AuditRecord& record) {
    database_.run("INSERT INTO audit (seq, record) VALUES ($1, $2)", {static_cast<std::int64_t>(record.seq), record.text});
    end_.head = head_after(record);
}

void Work::append(const AuditEvent& event, Time now) {
    put(audit_record(end_.head, event, now));
    if (end_.head.seq - end_.signed_seq >= options_.sign_every) sign(now);
}

void Work::sign(Time now) {
    if (!options_.signer || end_.head.seq == end_.signed_seq) return;
    put(audit_signature(end_.head, options_.signer, now));
    end_.signed_seq = end_.head.seq;
}

void Work::save() {
    const auto result = database_.run("UPDATE audit_head SET seq = $1, hash = $2, signed_seq = $3 WHERE one = 1",
                                      {static_cast<std::int64_t>(end_.head.seq), hex(end_.head.hash), static_cast<std::int64_t>(end_.signed_seq)});
    require(result.changed == 1, "the audit log has one head");
}

void Transactions::run(const std::function<void(Work&)>& change) {
    Waiting own{.change = &change, .error = {}};
    std::unique_lock lock{mutex_};
    queue_.push_back(&own);
    // one thread at a time works the connection; the others wait until it did their change, or until they are the one
    while (!own.done) {
        if (leading_) {
            finished_.wait(lock);
            continue;
        }
        leading_ = true;
        std::deque<Waiting*> batch;
        for (std::size_t i = 0; i < batch_limit && !queue_.empty(); ++i) {
            batch.push_back(queue_.front());
            queue_.pop_front();
        }
        lock.unlock();
        run_all(batch);
        lock.lock();
        for (Waiting* waiting : batch) waiting->done = true;
        leading_ = false;
        finished_.notify_all();
    }
    lock.unlock();
    if (own.error) std::rethrow_exception(own.error);
}

void Transactions::run_one(Work& work, Waiting& waiting) {
    const Work::End before = work.end_;
    work.database().run("SAVEPOINT one_change");
    try {
        (*waiting.change)(work);
        work.database().run("RELEASE SAVEPOINT one_change");
    } catch (...) {
        waiting.error = std::current_exception();
        work.end_ = before;
        work.database().run("ROLLBACK TO SAVEPOINT one_change");
        work.database().run("RELEASE SAVEPOINT one_change");
    }
}

void Transactions::run_all(const std::deque<Waiting*>& batch) {
    bool begun = false;
    try {
        if (database_->broken()) database_->reconnect();
        database_->begin();
        begun = true;
        Work work{*database_, options_};
        for (Waiting* waiting : batch) run_one(work, *waiting);
        work.save();
        database_->commit();
    } catch (...) {
        // what the commit did is not known, or nothing was done at all: everybody in the batch hears of it
        if (begun) database_->roll_back();
        for (Waiting* waiting : batch)
            if (!waiting->error) waiting->error = std::current_exception();
    }
}

} // namespace sev::attest::owner
