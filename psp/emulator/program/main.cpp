// SPDX-License-Identifier: Apache-2.0
// sev-emulator: makes and shows emulated PSPs, and serves one to other programs as /dev/sev.
#include <cstdio>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/error.hpp"
#include "base/json.hpp"
#include "psp/emulator/emulator.hpp"
#include "psp/emulator/program/device_options.hpp"

namespace sev::psp::emulator {
namespace {

std::string root_of(const Identity& identity) { return fmt::format("{}:{}:{}", identity.personality, name(identity.product), hex(identity.ark.fingerprint())); }

json::Value describe(const Identity& identity, const Personality& personality) {
    return {{"format", "xen-sev/emulated-psp"},
            {"version", 1},
            {"personality", personality.name},
            {"title", personality.title},
            {"product", name(personality.product)},
            {"firmware", personality.build.text()},
            {"max_asid", personality.max_asid},
            {"min_sev_asid", personality.min_sev_asid},
            {"chip_id", hex(identity.chip_id)},
            {"root", root_of(identity)},
            {"root_fingerprint", hex(identity.ark.fingerprint())},
            {"cek_fingerprint", hex(identity.cek.fingerprint())}};
}

void show(const Emulator& emulator, bool as_json) {
    const Identity& identity = emulator.identity();
    const Personality& personality = emulator.personality();
    if (as_json) {
        fmt::print("{}", json::pretty(describe(identity, personality)));
        return;
    }
    fmt::print("emulated PSP   {} (not AMD hardware)\n", personality.title);
    fmt::print("firmware       {}\n", personality.build.text());
    fmt::print("ASIDs          {}: 1 … {} for SEV-ES, the rest for SEV\n", personality.max_asid, personality.min_sev_asid - 1);
    fmt::print("chip id        {}\n               {}\n", hex(identity.chip_id).substr(0, 64), hex(identity.chip_id).substr(64));
    fmt::print("CEK            {}\n", hex(identity.cek.fingerprint()));
    fmt::print("root           {}\n", hex(identity.ark.fingerprint()));
    fmt::print("\nAn owner trusts it by naming that root; for sevctl verify:\n  --root {}\n", root_of(identity));
}

Bytes certificate_authority(const Identity& identity) {
    Bytes out = identity.ask.serialize();
    const Bytes ark = identity.ark.serialize();
    out.insert(out.end(), ark.begin(), ark.end());
    return out;
}

/// Options of the sub-commands that serve a device.
void add_device_options(CLI::App& command, DeviceChoice& choice, bool state_required) {
    CLI::Option& state = *command.add_option("--state", choice.state, "directory of the chip, made by sev-emulator create");
    if (state_required) state.required();
    command.add_option("--fault", choice.faults, "inject a fault: COMMAND=STATUS or COMMAND=hang, with ,skip=N and ,count=N; repeatable")->take_all();
    command.add_option("--timeout", choice.timeout_ms, "how long the driver waits for one command, in ms (default 100000)");
    command.add_option("--permit", choice.permit, "who may open the device: rw (default), r: for reading only, none");
    command.add_flag("--verbose", choice.verbose, "say on stderr what the kernel would log");
}

/// What follows the first "--" is the program of `run`, and no option of ours.
std::vector<std::string> take_program(int& argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        if (std::string_view{argv[i]} != "--") continue;
        std::vector<std::string> program{argv + i + 1, argv + argc};
        argc = i;
        return program;
    }
    return {};
}

int run(int argc, char** argv) {
    CLI::App app{"sev-emulator: the emulated PSP of xen-sev", "sev-emulator"};
    app.require_subcommand(1);
    app.set_version_flag("-V,--version", "sev-emulator " XEN_SEV_VERSION " (xen-sev)");
    std::string state, personality = "epyc-3151", out;
    bool as_json = false, force = false;

    CLI::App& create = *app.add_subcommand("create", "make a new chip, with an identity and roots of its own");
    create.add_option("--state", state, "directory to keep it in")->required();
    create.add_option("--personality", personality, "which machine it pretends to be (default epyc-3151)");
    create.add_flag("--json", as_json, "print it as JSON");
    CLI::App& show_command = *app.add_subcommand("show", "show a chip: firmware, ASIDs, id, root");
    show_command.add_option("--state", state, "its directory")->required();
    show_command.add_flag("--json", as_json, "print it as JSON");
    CLI::App& ca = *app.add_subcommand("ca", "write its ASK and ARK, as AMD's server would give them");
    ca.add_option("--state", state, "its directory")->required();
    ca.add_option("--out", out, "file for ASK and ARK (binary)")->required();
    ca.add_flag("--force", force, "replace the file");
    CLI::App& cek = *app.add_subcommand("cek", "write its CEK certificate signed by the ASK, as AMD's server would give it");
    cek.add_option("--state", state, "its directory")->required();
    cek.add_option("--out", out, "file for the certificate (binary)")->required();
    cek.add_flag("--force", force, "replace the file");
    RunOptions run_options;
    CLI::App& run_command = *app.add_subcommand("run", "run a program, unmodified, with a /dev/sev: run [OPTIONS] -- PROGRAM [ARGUMENTS]");
    add_device_options(run_command, run_options.device, false);
    CLI::Option& run_socket = *run_command.add_option("--socket", run_options.socket, "use the platform of a running sev-emulator serve");
    run_command.add_option("--personality", run_options.device.personality, "without --state and --socket: what the new chip pretends to be (default epyc-3151)");
    run_socket.excludes("--state")->excludes("--personality")->excludes("--fault")->excludes("--timeout")->excludes("--permit");
    ServeOptions serve_options;
    CLI::App& serve_command = *app.add_subcommand("serve", "keep one platform for many programs, on a Unix socket, until SIGTERM");
    add_device_options(serve_command, serve_options.device, true);
    serve_command.add_option("--socket", serve_options.socket, "where to listen; only you and root can connect")->required();
    serve_command.add_option("--ready-fd", serve_options.ready_fd, "descriptor on which to write READY=1 once programs can connect");
    CuseOptions cuse_options;
    CLI::App& cuse_command = *app.add_subcommand("cuse", "make a character device, where the kernel has CUSE, until SIGTERM");
    add_device_options(cuse_command, cuse_options.device, true);
    cuse_command.add_option("--name", cuse_options.name, "its name in /dev (default sev)");
    CLI::App& personalities = *app.add_subcommand("personalities", "list the machines it can pretend to be");
    run_options.program = take_program(argc, argv);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == 0) return app.exit(error);
        throw Error{sev::Fault::usage, error.what(), "see: sev-emulator --help"};
    }

    if (!run_options.program.empty() && !run_command.parsed()) throw Error{sev::Fault::usage, "a program after -- is for sev-emulator run alone", "see: sev-emulator --help"};
    const Existing existing = force ? Existing::replace : Existing::refuse;
    if (create.parsed()) {
        const Personality* const found = find_personality(personality);
        if (!found) throw Error{sev::Fault::usage, fmt::format("personality {} is not known", printable(personality)), "see: sev-emulator personalities"};
        show(*Emulator::create(state, *found), as_json);
    } else if (show_command.parsed()) {
        show(*Emulator::open(state), as_json);
    } else if (ca.parsed()) {
        write_file(out, certificate_authority(Emulator::open(state)->identity()), Visibility::readable, existing);
    } else if (cek.parsed()) {
        write_file(out, Emulator::open(state)->identity().cek.serialize(), Visibility::readable, existing);
    } else if (run_command.parsed()) {
        return run_program(run_options);
    } else if (serve_command.parsed()) {
        return serve(serve_options);
    } else if (cuse_command.parsed()) {
        return serve_cuse(cuse_options);
    } else if (personalities.parsed()) {
        for (const Personality& each : all_personalities()) fmt::print("{:<12} {}, firmware {}, {} ASIDs\n", each.name, each.title, each.build.text(), each.max_asid);
    }
    return 0;
}

} // namespace
} // namespace sev::psp::emulator

int main(int argc, char** argv) {
    try {
        const int status = sev::psp::emulator::run(argc, argv);
        if (std::fflush(stdout) != 0 || std::ferror(stdout)) throw sev::Error{sev::Fault::system, "standard output: cannot be written"};
        return status;
    } catch (const sev::Error& error) {
        fmt::print(stderr, "sev-emulator: error: {}\n", sev::printable(error.what(), 8192));
        if (!error.hint().empty()) fmt::print(stderr, "sev-emulator: hint: {}\n", sev::printable(error.hint(), 8192));
    } catch (const std::exception& error) {
        fmt::print(stderr, "sev-emulator: error: unexpected: {}\n", error.what());
    }
    return 2;
}
