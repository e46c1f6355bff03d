// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "psp/emulator/program/device_options.hpp"
#include "psp/emulator/program/executable.hpp"

namespace sev::psp::emulator {
namespace {

constexpr const char* library_name = "libsev-emulator-preload.so";
constexpr std::array forwarded{SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

/// The preloaded library: beside this program in a build tree, in the library directory once installed.
Path preload_library() {
    std::error_code ignored;
    const Path self = std::filesystem::read_symlink("/proc/self/exe", ignored);
    for (const Path& candidate : {self.parent_path() / library_name, Path{XEN_SEV_PRELOAD_DIR} / library_name}) {
        if (std::filesystem::is_regular_file(candidate, ignored)) return candidate;
    }
    throw Error{sev::Fault::system, fmt::format("{}: found neither beside this program nor in {}", library_name, XEN_SEV_PRELOAD_DIR),
                "install it again: it belongs to sev-emulator"};
}

/// Sets up the child's environment and becomes the program. Reports why it could not through `report`.
[[noreturn]] void become(const Path& program, const std::vector<std::string>& words, const std::string& preload, const std::string& socket,
                         const sigset_t& mask, int report) {
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::setenv("LD_PRELOAD", preload.c_str(), 1);
    ::setenv("SEV_EMULATOR_SOCKET", socket.c_str(), 1);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    ::execv(program.c_str(), arguments.data());
    const int error_number = errno;
    static_cast<void>(!::write(report, &error_number, sizeof error_number));
    ::_exit(127);
}

/// A started program. Killed and reaped when it is still there at the end.
class Child {
public:
    Child(const Path& program, const std::vector<std::string>& words, const std::string& preload, const std::string& socket, const sigset_t& mask) {
        int report[2];
        if (::pipe2(report, O_CLOEXEC) != 0) throw Error{sev::Fault::system, fmt::format("pipe: {}", std::strerror(errno))};
        const Fd reader{report[0]};
        Fd writer{report[1]};
        pid_ = ::fork();
        if (pid_ < 0) throw Error{sev::Fault::system, fmt::format("fork: {}", std::strerror(errno))};
        if (pid_ == 0) become(program, words, preload, socket, mask, writer.get());
        writer = Fd{};
        int error_number = 0;
        if (::read(reader.get(), &error_number, sizeof error_number) == static_cast<ssize_t>(sizeof error_number)) {
            ::waitpid(pid_, nullptr, 0);
            pid_ = -1;
            throw Error{sev::Fault::usage, fmt::format("{}: cannot be run: {}", printable(program.string(), 4096), std::strerror(error_number))};
        }
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    ~Child() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    void signal(int number) const { ::kill(pid_, number); }
    /// The exit status once it has ended.
    std::optional<int> ended() {
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
        pid_ = -1;
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }

private:
    pid_t pid_ = -1;
};

/// Passes signals on until the program ends.
int wait_for(Child& child, const Fd& signals) {
    for (;;) {
        if (const auto status = child.ended()) return *status;
        signalfd_siginfo info{};
        const ssize_t got = ::read(signals.get(), &info, sizeof info);
        if (got != static_cast<ssize_t>(sizeof info)) continue;
        const int number = static_cast<int>(info.ssi_signo);
        // What the terminal sends goes to the whole group, so the program has had it already.
        if (number != SIGCHLD && info.ssi_code != SI_KERNEL) child.signal(number);
    }
}

std::string with_preload(const Path& library) {
    const char* const before = std::getenv("LD_PRELOAD");
    return before && *before ? library.string() + ":" + before : library.string();
}

/// The thread that serves while the program runs.
class Serving {
public:
    Serving(DeviceServer& server, int stop) : stop_{stop}, thread_{[&server, stop] {
        try {
            server.serve(stop);
        } catch (const std::exception& error) {
            fmt::print(stderr, "sev-emulator: error: {}\n", error.what());
        }
    }} {}
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;
    ~Serving() {
        const std::uint64_t one = 1;
        static_cast<void>(!::write(stop_, &one, sizeof one));
        thread_.join();
    }

private:
    int stop_;
    std::thread thread_;
};

} // namespace

int run_program(const RunOptions& options) {
    if (options.program.empty()) throw Error{sev::Fault::usage, "no program given", "sev-emulator run [OPTIONS] -- PROGRAM [ARGUMENTS]"};
    const Path program = find_program(options.program[0]);
    check_preloadable(program);
    const std::string preload = with_preload(preload_library());

    sigset_t handled, before;
    ::sigemptyset(&handled);
    ::sigaddset(&handled, SIGCHLD);
    for (const int number : forwarded) ::sigaddset(&handled, number);
    ::sigprocmask(SIG_BLOCK, &handled, &before); // threads made from here on inherit it
    const Fd signals{::signalfd(-1, &handled, SFD_CLOEXEC)};
    const Fd stop{::eventfd(0, EFD_CLOEXEC)};
    if (!signals || !stop) throw Error{sev::Fault::system, fmt::format("signalfd or eventfd: {}", std::strerror(errno))};

    if (!options.socket.empty()) {
        std::error_code ignored;
        if (!std::filesystem::is_socket(options.socket, ignored))
            throw Error{sev::Fault::usage, fmt::format("{}: no emulator serves there", printable(options.socket, 4096)),
                        "start one: sev-emulator serve --state DIR --socket PATH"};
        Child child{program, options.program, preload, std::filesystem::absolute(options.socket).lexically_normal().string(), before};
        return wait_for(child, signals);
    }
    const TemporaryDirectory folder;
    Platform platform{options.device, folder.path() / "psp"};
    DeviceServerOptions server_options{.socket = folder.path() / "socket", .permit = parse_permit(options.device.permit)};
    server_options.log = log_to_stderr(options.device.verbose);
    server_options.on_drain = [&] { platform.emulator().faults().release(); };
    const std::string socket = server_options.socket.string();
    DeviceServer server{platform.device(), std::move(server_options)};
    Child child{program, options.program, preload, socket, before}; // before any thread is made
    const Serving serving{server, stop.get()};
    return wait_for(child, signals);
}

} // namespace sev::psp::emulator
