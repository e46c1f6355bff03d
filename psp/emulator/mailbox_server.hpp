// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "psp/emulator/emulator.hpp"
#include "psp/emulator/mailbox_memory.hpp"
#include "psp/emulator/mailbox_wire.hpp"

namespace sev::psp::emulator {

struct MailboxServerOptions {
    Path socket; // made with mode 0600
    Path memory; // the file that backs the machine's RAM; opened when the machine says hello
    std::chrono::milliseconds message_deadline{5'000}; // for the rest of a frame, and for the hello of a new connection
    /// What a developer wants to know: connections, refusals, trouble.
    std::function<void(std::string_view line)> log = [](std::string_view) {};
    /// One line a command (mailbox_transcript.hpp).
    std::function<void(std::string_view line)> transcript = [](std::string_view) {};
};

/// One machine at the mailbox, from its hello to its end. A machine that comes finds the PSP switched off, and leaves it so.
class MailboxSession {
public:
    MailboxSession(Emulator& emulator, const MailboxServerOptions& options) : emulator_{emulator}, options_{options} {}
    MailboxSession(const MailboxSession&) = delete;
    MailboxSession& operator=(const MailboxSession&) = delete;
    ~MailboxSession();
    /// What is said to a frame of the machine; nullopt: nothing. `refused` is the last word. Throws Error{Fault::malformed} for a frame that is not
    /// the machine's to send, or not now.
    std::optional<MailboxFrame> answer(const MailboxFrame& frame);
    bool greeted() const noexcept { return memory_ != nullptr; }

private:
    MailboxFrame welcome(const RamLayout& layout);
    MailboxFrame execute(const MailboxFrame& frame);
    Emulator& emulator_;
    const MailboxServerOptions& options_;
    std::unique_ptr<MailboxMemory> memory_;
    bool hung_ = false; // a hung PSP answers nothing until its machine is reset
};

/// Serves the emulated PSP as the mailbox of one virtual machine at a time. Whoever else connects is told so and turned away.
class MailboxServer {
public:
    /// Listens. Throws as `listen_on` does.
    MailboxServer(Emulator& emulator, MailboxServerOptions options);
    MailboxServer(const MailboxServer&) = delete;
    MailboxServer& operator=(const MailboxServer&) = delete;
    ~MailboxServer();
    /// Serves until `stop_fd` is readable. Machine after machine: what one does wrong ends its connection alone.
    void serve(int stop_fd);

private:
    struct Client;
    void accept_one();
    /// False when the machine is gone or has to go.
    bool attend(Client& client);
    void attend_all();

    Emulator& emulator_;
    MailboxServerOptions options_;
    Fd listener_;
    std::unique_ptr<Client> client_;
};

} // namespace sev::psp::emulator
