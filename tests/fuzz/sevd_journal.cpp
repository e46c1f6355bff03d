// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "launch/daemon/journal.hpp"
#include "tests/fuzz/fuzz.hpp"

/// The journal of an earlier run, as a file of any content: it opens and reads, or is refused; what was read can be written back.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace sev;
    constexpr std::size_t many = 1U << 20;
    static const Path directory = [] {
        std::string name = (std::filesystem::temp_directory_path() / "xen-sev-fuzz-XXXXXX").string();
        if (!::mkdtemp(name.data())) std::abort();
        return Path{name};
    }();
    for (const char* file : {"journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"}) std::filesystem::remove(directory / file);
    write_file(directory / "journal.sqlite", {data, size}, Visibility::secret, Existing::replace);
    try {
        daemon::Journal journal{directory};
        const auto records = journal.newest(many, std::nullopt);
        fuzz::expect(journal.unended().size() <= records.size(), "what has not ended is listed");
        for (const auto& brief : records) {
            fuzz::expect(!brief.to_json(false).empty(), "a launch can be listed");
            const auto record = journal.find(brief.id);
            fuzz::expect(record.has_value() && !record->to_json(true).empty(), "a launch can be shown");
            journal.save(*record);
            if (const auto kept = journal.bundle(brief.id)) journal.keep_bundle(brief.id, kept->bundle, kept->measured);
        }
        for (const auto& stuck : journal.stuck()) journal.remove_stuck(stuck.handle);
        journal.use_session({}, 1);
        fuzz::expect(journal.newest(many, std::nullopt).size() == records.size(), "writing what was read changes no launch");
    } catch (const Error&) {
        return 0;
    }
    return 0;
}
