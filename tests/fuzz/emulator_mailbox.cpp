// SPDX-License-Identifier: Apache-2.0
// What a hostile virtual machine may say to the mailbox. Input: frames of 40 bytes each; of the last, what there is.
#include <filesystem>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "psp/emulator/mailbox_server.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace {

using namespace sev;
using namespace sev::psp::emulator;
using fuzz::expect;
using Kind = MailboxFrame::Kind;

constexpr std::uint64_t ram_bytes = 0x20'0000;

/// One chip, and a file for the RAM, for all inputs.
struct World {
    World() {
        std::string pattern = (std::filesystem::temp_directory_path() / "xen-sev-fuzz-XXXXXX").string();
        expect(::mkdtemp(pattern.data()) != nullptr, "there is a directory for temporary files");
        directory = pattern;
        emulator = Emulator::create(directory / "psp", *find_personality("epyc-3151"));
        ram = Fd{::memfd_create("ram", MFD_CLOEXEC)};
        expect(::ftruncate(ram.get(), static_cast<off_t>(ram_bytes)) == 0, "the RAM has its size");
        options.memory = fmt::format("/proc/self/fd/{}", ram.get());
    }
    World(const World&) = delete;
    World& operator=(const World&) = delete;
    ~World() {
        emulator.reset();
        std::error_code ignored;
        std::filesystem::remove_all(directory, ignored);
    }
    Path directory;
    std::unique_ptr<Emulator> emulator;
    Fd ram;
    MailboxServerOptions options;
};

} // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static World world;
    MailboxSession session{*world.emulator, world.options};
    try {
        for (ByteView input{data, size}; input.size() >= MailboxFrame::wire_size; input = input.subspan(MailboxFrame::wire_size)) {
            const auto raw = input.first<MailboxFrame::wire_size>();
            const MailboxFrame frame = MailboxFrame::parse(raw);
            expect(std::ranges::equal(frame.serialize(), raw), "what parses serialises to the same bytes");
            const bool before = session.greeted();
            const auto answer = session.answer(frame);
            expect(answer.has_value() == (frame.kind != Kind::reset), "all but a reset is answered");
            if (!answer) continue;
            expect(MailboxFrame::parse(wire::view(answer->serialize())) == *answer, "what is answered parses");
            expect(before == (answer->kind == Kind::answer || answer->kind == Kind::silence), "commands are for machines that were welcomed");
            expect(answer->sequence == frame.sequence, "an answer has its command's number");
            if (answer->kind == Kind::refused) break;
        }
    } catch (const Error& error) {
        expect(error.fault() == sev::Fault::malformed, "only what is malformed is an error");
    }
    return 0;
}
