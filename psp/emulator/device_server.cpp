// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/device_server.hpp"

#include <atomic>
#include <cerrno>
#include <thread>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "psp/emulator/packet_socket.hpp"
#include "psp/emulator/remote_memory.hpp"

namespace sev::psp::emulator {
namespace {

constexpr unsigned nonsense_limit = 64; // packets on one handle that are no requests; then it is closed

class SocketChannel final : public Channel {
public:
    SocketChannel(const Fd& socket, std::chrono::milliseconds deadline) : socket_{socket}, deadline_{deadline} {}
    bool send(ByteView message) override { return send_packet(socket_, message, deadline_); }
    std::optional<Bytes> receive() override {
        Packet packet;
        if (receive_packet(socket_, device_wire::message_limit_bytes, deadline_, packet) != Received::packet) return std::nullopt;
        return std::move(packet.bytes);
    }

private:
    const Fd& socket_;
    std::chrono::milliseconds deadline_;
};

} // namespace

/// One open file of a program, and the thread that attends to it.
struct DeviceServer::Handle {
    Handle(LinuxDevice& its_device, const DeviceServerOptions& its_options, Fd its_socket, bool full)
        : device{its_device}, options{its_options}, socket{std::move(its_socket)}, thread{[this, full] { attend(full); }} {}

    void attend(bool full) noexcept {
        try {
            if (greet(full)) serve();
        } catch (const std::exception& error) {
            options.log(fmt::format("a connection was given up: {}", error.what()));
        }
        ::shutdown(socket.get(), SHUT_RDWR);
        ended = true;
    }

    /// The first message says how the file is opened. False when it is not.
    bool greet(bool full) {
        Packet packet;
        device_wire::Header header;
        if (receive_packet(socket, device_wire::message_limit_bytes, options.message_deadline, packet) != Received::packet) return false;
        if (!device_wire::parse(packet.bytes.data(), packet.bytes.size(), header) || header.kind != device_wire::Kind::open) {
            options.log("a connection did not begin as this version's preloaded library does, and was closed");
            return false;
        }
        writable = header.number == 1;
        int error_number = full ? ENFILE : 0;
        if (options.permit == Permit::nobody || (options.permit == Permit::read_only && writable)) error_number = EACCES;
        const Bytes answer = device_message({.kind = device_wire::Kind::opened, .number = static_cast<std::uint32_t>(error_number)});
        if (!send_packet(socket, answer, options.message_deadline) || error_number != 0) return false;
        // Nothing more is said on the handle, so a program that reads from its /dev/sev sees end of file instead of waiting for ever.
        ::shutdown(socket.get(), SHUT_WR);
        return true;
    }

    void serve() {
        for (unsigned nonsense = 0; nonsense < nonsense_limit;) {
            Packet packet;
            if (receive_packet(socket, device_wire::message_limit_bytes, std::nullopt, packet) != Received::packet) return;
            device_wire::Header header;
            if (device_wire::parse(packet.bytes.data(), packet.bytes.size(), header) && header.kind == device_wire::Kind::ioctl &&
                is_packet_socket(packet.descriptor))
                answer_ioctl(header, packet.descriptor);
            else
                ++nonsense;
        }
        options.log("a program wrote to its /dev/sev again and again, and was cut off");
    }

    void answer_ioctl(const device_wire::Header& header, const Fd& conversation) {
        SocketChannel channel{conversation, options.message_deadline};
        RemoteMemory memory{channel};
        const LinuxDevice::Answer answer = device.ioctl(header.number, header.address, writable, memory);
        if (memory.broken()) {
            options.log("a program stalled, died or broke the protocol in the middle of an ioctl");
            return;
        }
        channel.send(device_message({.kind = device_wire::Kind::done, .number = static_cast<std::uint32_t>(answer.error_number)}));
    }

    LinuxDevice& device;
    const DeviceServerOptions& options;
    Fd socket;
    bool writable = false;
    std::atomic<bool> ended = false;
    std::thread thread; // last: it uses the others
};

DeviceServer::DeviceServer(LinuxDevice& device, DeviceServerOptions options)
    : device_{device}, options_{std::move(options)}, listener_{listen_on(options_.socket)} {}

DeviceServer::~DeviceServer() {
    for (const auto& handle : handles_) ::shutdown(handle->socket.get(), SHUT_RD);
    reap(true);
    ::unlink(options_.socket.c_str());
}

void DeviceServer::reap(bool all) {
    for (auto at = handles_.begin(); at != handles_.end();) {
        if (!all && !(*at)->ended) {
            ++at;
            continue;
        }
        (*at)->thread.join();
        at = handles_.erase(at);
    }
}

void DeviceServer::accept_one() {
    Fd socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    if (!socket) {
        // Out of descriptors: whoever waits in the queue is served when somebody has closed; do not spin until then.
        if (errno == EMFILE || errno == ENFILE) ::usleep(10'000);
        return;
    }
    if (!peer_is_ours(socket)) {
        options_.log("another user tried to connect, and was turned away");
        return;
    }
    reap(false);
    // Twice the limit is where even the polite refusal ends.
    if (handles_.size() >= 2 * options_.handle_limit) return;
    handles_.push_back(std::make_unique<Handle>(device_, options_, std::move(socket), handles_.size() >= options_.handle_limit));
}

void DeviceServer::serve(int stop_fd) {
    for (;;) {
        std::array<struct pollfd, 2> entries{
            {{.fd = listener_.get(), .events = POLLIN, .revents = 0}, {.fd = stop_fd, .events = POLLIN, .revents = 0}}};
        const int ready = ::poll(entries.data(), entries.size(), 1000);
        if (ready < 0 && errno != EINTR) throw Error{sev::Fault::system, "poll failed"};
        if (ready > 0 && entries[1].revents != 0) break;
        if (ready > 0 && entries[0].revents != 0) accept_one();
        if (ready == 0) reap(false);
    }
    listener_ = Fd{};
    options_.on_drain();
    // A handle that is idle ends at once; one with a command running ends after it.
    for (const auto& handle : handles_) ::shutdown(handle->socket.get(), SHUT_RD);
    reap(true);
}

} // namespace sev::psp::emulator
