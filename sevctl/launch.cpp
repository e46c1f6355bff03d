// SPDX-License-Identifier: Apache-2.0
// `sevctl launch`: by sevd, or, with --psp, here: host and guest owner in one process, on the two sides of the wall: what passes between them here is
// the text of the messages that would pass over a wire, and each side reads it as if from a stranger.
#include <array>
#include <chrono>

#include <fmt/format.h>

#include "attest/judge.hpp"
#include "attest/protocol/bundle.hpp"
#include "attest/secret_packet.hpp"
#include "launch/guest_launch.hpp"
#include "launch/image_guest.hpp"
#include "launch/platform.hpp"
#include "psp/emulator/emulated_firmware.hpp"
#include "sevctl/commands.hpp"
#include "sevctl/inputs.hpp"
#include "sevctl/launch_daemon.hpp"
#include "sevctl/service.hpp"

namespace sev::cli {
namespace {

constexpr std::array arguments{
    Argument{.name = "--image",
             .kind = Kind::input,
             .metavar = "LAYOUT",
             .help = "The guest: an image layout (JSON, docs/schemas/image-layout.schema.json) that lists files, addresses, vCPUs and secret slots.",
             .limit_bytes = launch::ImageLayout::limit_bytes},
    Argument{.name = "--xl-cfg",
             .kind = Kind::input,
             .metavar = "FILE",
             .help = "The guest: an xl configuration file. sevd creates the domain paused, and lets it run after a positive verdict alone.",
             .content = Content::opaque,
             .limit_bytes = 1 << 20},
    Argument{.name = "--domid", .kind = Kind::number, .metavar = "N", .help = "The guest: a Xen domain that was created paused and never ran."},
    Argument{.name = "--uuid", .metavar = "UUID", .help = "With --domid: refuse a domain that has another UUID, since numbers are used again."},
    Argument{.name = "--leave-paused",
             .kind = Kind::flag,
             .help = "With --domid: after a positive verdict leave it paused, with its secrets, for whoever resumes it (virsh resume)."},
    Argument{.name = "--owner",
             .kind = Kind::input_or_text,
             .metavar = "OWNER",
             .help = "The guest owner: a name in sevd's configuration; or, with --psp, a policy file (JSON, docs/schemas/owner-policy.schema.json).",
             .required = true,
             .limit_bytes = attest::OwnerPolicy::limit_bytes},
    Argument{.name = "--policy", .metavar = "NAME", .help = "Which of the owner's policies is to judge. Default: the launch's name."},
    Argument{.name = "--name",
             .metavar = "NAME",
             .help = "What this launch is called in session, evidence and verdict. Default: image, the file's name, or domain-N."},
    Argument{.name = "--evidence",
             .kind = Kind::choice,
             .metavar = "KIND",
             .help = "measurement (default), or report: a PEK-signed attestation report, which frees no secret.",
             .choices = "measurement|report"},
    Argument{.name = "--no-wait",
             .kind = Kind::flag,
             .help = "Only tell sevd, and print the launch's number. Exit status 0 then says nothing of a verdict."},
    Argument{.name = "--timeout",
             .kind = Kind::real,
             .metavar = "SECONDS",
             .help = "How long to wait for the launch to run or end, from 0.1 to 86400. Default: 600. It goes on without us."},
    daemon_socket_option,
    Argument{.name = "--psp",
             .kind = Kind::choice,
             .metavar = "BACKEND",
             .help = "Without sevd: host and owner in this one process, with this PSP. Never chosen by itself; image guests alone.",
             .choices = "emulated"},
    Argument{.name = "--state",
             .kind = Kind::text,
             .metavar = "DIR",
             .help = "With --psp: state directory of the emulated PSP, made by sev-emulator create."},
    Argument{.name = "--bundle",
             .kind = Kind::output,
             .metavar = "FILE",
             .help = "With --psp: also write what the owner was shown (JSON, docs/schemas/bundle.schema.json), for sevctl judge."},
    Argument{.name = "--show-slot",
             .kind = Kind::text,
             .metavar = "SLOT",
             .help = "With --psp: after the launch, show the start of this secret slot as the host sees it and as the guest does. The guest's view "
                     "holds the secret in the clear."},
    Argument{.name = "--verbose", .kind = Kind::flag, .help = "Print every check of the verdict, not only those that failed."},
    Argument{.name = "--fault",
             .kind = Kind::text,
             .metavar = "FAULT",
             .help = "With --psp: inject a fault into the emulated PSP: COMMAND=STATUS or COMMAND=hang, with ,skip=N and ,count=N. Repeatable.",
             .repeated = true},
    force_option,
    json_option,
};

constexpr std::size_t view_bytes = 48;
constexpr std::chrono::seconds psp_deadline{30};

/// A message as it crosses the wall: serialised by one side, parsed by the other.
template <class Message>
Message carried(const Message& message, std::string_view what) {
    return attest::read_message<Message>(message.to_json().dump(), what);
}

/// Says what is happening, a line a step, in at most 80 columns; or collects the steps for --json.
class Story {
public:
    explicit Story(Console& console) : console_{console} {}
    void tell(std::string_view who, std::string_view step, std::string_view detail) {
        if (!console_.json()) {
            // who (6) + step (20) leave 52 columns a line for the detail
            std::string_view rest = detail;
            bool first = true;
            do {
                std::size_t cut = rest.size() <= 52 ? rest.size() : rest.rfind(' ', 52);
                if (cut == std::string_view::npos || cut == 0) cut = std::min<std::size_t>(52, rest.size());
                console_.print(fmt::format("{:<6} {:<20} {}\n", first ? who : "", first ? step : "", rest.substr(0, cut)));
                rest.remove_prefix(std::min(rest.size(), rest.substr(cut).starts_with(' ') ? cut + 1 : cut));
                first = false;
            } while (!rest.empty());
        }
        steps_.push_back({{"side", who}, {"step", step}, {"detail", detail}});
    }
    launch::Observer host() {
        return [this](const launch::Progress& progress) { tell("host", progress.step, progress.detail); };
    }
    const json::Value& steps() const noexcept { return steps_; }

private:
    Console& console_;
    json::Value steps_ = json::Value::array();
};

attest::Time now() { return std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now()); }

std::size_t failures(const std::vector<psp::Check>& checks) {
    return static_cast<std::size_t>(std::ranges::count(checks, false, &psp::Check::passed));
}

std::string dump(ByteView bytes) {
    std::string characters;
    for (const std::uint8_t b : bytes) characters += b >= 0x20 && b < 0x7F ? static_cast<char>(b) : '.';
    return characters;
}

/// The guest's secret slot from both sides.
struct Views {
    Bytes host, guest;
};

Views look(psp::emulator::Emulator& emulator, psp::AddressSpace& space, const launch::ImageGuest& guest, const launch::GuestSlot& slot,
           psp::GuestHandle handle) {
    const std::size_t length = std::min<std::size_t>(slot.length_bytes, 256);
    Views views{.host = Bytes(length), .guest = Bytes(length)};
    guest.read_as_host(slot.gpa, views.host);
    emulator.read_as_guest(handle, guest.locate(slot.gpa, length).at(0).at, views.guest, space);
    return views;
}

void tell_views(Console& console, const Views& views) {
    // newc archives begin with 110 bytes of header and the name; what the guest's init unpacks is the text after them
    for (const auto& [who, bytes] : {std::pair{"host sees", &views.host}, {"guest sees", &views.guest}})
        for (std::size_t at = 0; at < bytes->size() && at < 4 * view_bytes; at += view_bytes)
            console.print(fmt::format("{:<11} +{:03x}  |{}|\n", at == 0 ? who : "", at,
                                      dump(ByteView{*bytes}.subspan(at, std::min(view_bytes, bytes->size() - at)))));
}

/// Everything the launch needs on the host's side, in the order in which it must be taken down.
struct Host {
    explicit Host(const Arguments& given)
        : emulator{psp::emulator::Emulator::open(Path{given.text("--state")})}, firmware{*emulator, space, psp_deadline},
          asids{{.max = emulator->personality().max_asid, .min_sev = emulator->personality().min_sev_asid}} {
        for (const std::string& fault : given.all("--fault")) emulator->faults().add(psp::emulator::Fault::parse(fault));
    }
    psp::AddressSpace space;
    std::unique_ptr<psp::emulator::Emulator> emulator;
    psp::emulator::EmulatedFirmware firmware;
    launch::AsidPool asids;
};

json::Value summary(const Arguments& given, const Story& story, bool trusted) {
    json::Value out = result_of(given);
    out["launched"] = trusted;
    out["level"] = 0;
    out["emulated"] = true;
    out["steps"] = story.steps();
    return out;
}

Answer refuse_platform(const Arguments& given, Console& console, Story& story, const attest::PlatformVerdict& verdict) {
    for (const psp::Check& check : verdict.checks)
        if (!check.passed) story.tell("owner", "FAIL", fmt::format("{}: {}", check.check, check.detail));
    story.tell("owner", "platform refused",
               fmt::format("{} of {} checks failed; no session is made, nothing was launched", failures(verdict.checks), verdict.checks.size()));
    if (console.json()) {
        json::Value out = summary(given, story, false);
        out["platform_checks"] = checks_as_json(verdict.checks);
        console.print(out);
    }
    return Answer::no;
}

Answer run_here(const Arguments& given, Console& console) {
    const std::string name = given.text_if("--name").value_or("image");
    const auto kind =
        given.text_if("--evidence").value_or("measurement") == "report" ? attest::EvidenceKind::report : attest::EvidenceKind::measurement;
    if (const auto bundle = given.text_if("--bundle")) check_output(*bundle);
    const launch::ImageLayout layout = launch::ImageLayout::load(given.text("--image"));

    // The owner's side: its policy and reference values, before it hears anything from the host.
    const auto policy = attest::OwnerPolicy::load(given.text("--owner"));
    const auto references = attest::resolve_references(policy);

    Host host{given};
    Story story{console};
    launch::ImageGuest guest{layout, host.space};
    const auto shown_slot = given.has("--show-slot") ? guest.slot(given.text("--show-slot")) : std::nullopt;
    if (given.has("--show-slot") && !shown_slot)
        throw Error{Fault::usage, fmt::format("--show-slot {}: the layout has no such slot", printable(given.text("--show-slot")))};
    story.tell("host", "EMULATED PSP",
               fmt::format("{}: {}, firmware {}. Not AMD hardware: proves nothing about this machine (L0)", given.text("--state"),
                           host.emulator->personality().title, host.emulator->personality().build.text()));

    const launch::InitialisedPlatform platform{host.firmware, host.space};
    const auto& identity = host.emulator->identity();
    const auto evidence =
        carried(launch::platform_evidence(host.firmware, launch::Endorsement{identity.cek, identity.ask, identity.ark}, 0), "platform evidence");
    story.tell("host", "platform evidence",
               fmt::format("chain of {} bytes, API {}, chip id {}…", evidence.chain.size(), evidence.build().text(),
                           evidence.chip_id ? hex(*evidence.chip_id).substr(0, 16) : "none"));

    const auto platform_verdict = attest::judge_platform(policy, evidence, now());
    if (!platform_verdict.accepted()) return refuse_platform(given, console, story, platform_verdict);
    story.tell("owner", "platform accepted", fmt::format("{} checks; root: {}", platform_verdict.checks.size(), platform_verdict.root->label));
    auto created = attest::create_session(*platform_verdict.pdh, policy.session_policy(), name);
    const auto offer = carried(created.offer, "session offer");
    story.tell("owner", "session", fmt::format("policy {}; TEK and TIK stay here", offer.policy.text()));

    launch::GuestLaunch launched{host.firmware, host.asids, guest, offer, evidence.build(), kind, story.host()};
    const psp::GuestHandle handle = launched.handle();
    const auto proof = carried(launched.evidence(), "launch evidence");
    if (const auto bundle = given.text_if("--bundle"))
        write_output(console, *bundle, as_bytes(json::pretty(attest::Bundle{.platform = evidence, .offer = offer, .launch = proof}.to_json())),
                     Visibility::readable, given.existing());

    auto judgement = attest::judge(std::move(created.session), evidence, proof, {.policy = policy, .references = references}, now());
    const attest::Verdict verdict = carried(judgement.verdict, "verdict");
    story.tell(
        "owner", "verdict",
        fmt::format("{}: {} checks, {} failed", verdict.trusted() ? "trusted" : "NOT TRUSTED", verdict.checks.size(), failures(verdict.checks)));
    if (!verdict.trusted()) {
        std::move(launched).destroy(story.host());
        story.tell("owner", "no secret", "none left the owner; the guest never ran");
    }

    std::optional<Views> views;
    if (verdict.trusted()) {
        std::vector<attest::SecretPacketMessage> packets;
        if (judgement.trusted) {
            const auto plan = attest::plan_release(*judgement.trusted, policy);
            for (const auto& held : plan.held) story.tell("owner", "secret held back", fmt::format("{}: {}", held.name, held.reason));
            for (const auto& packet : attest::release_secrets(*judgement.trusted, policy)) packets.push_back(carried(packet, "secret packet"));
            story.tell(
                "owner", "secret packets",
                fmt::format("{} sealed to this launch, for {} secret{}", packets.size(), plan.released.size(), plan.released.size() == 1 ? "" : "s"));
        } else {
            story.tell("owner", "no secret", "an attestation report frees none: it does not say whose session the guest has");
        }
        launch::Running running = std::move(launched).release(packets, story.host());
        if (shown_slot) views = look(*host.emulator, host.space, guest, *shown_slot, handle);
        std::move(running).destroy();
        story.tell("host", "DECOMMISSION", "an image guest has no CPU to run on; its context is closed");
    }
    if (console.json()) {
        json::Value out = summary(given, story, verdict.trusted());
        out["verdict"] = verdict.to_json();
        if (views) out["slot"] = {{"name", shown_slot->name}, {"host_view", hex(views->host)}, {"guest_view", hex(views->guest)}};
        console.print(out);
    } else {
        if (views) tell_views(console, *views);
        console.print("\n" + attest::render(verdict, 80, given.has("--verbose") ? attest::Detail::all : attest::Detail::failures));
    }
    return verdict.trusted() ? Answer::yes : Answer::no;
}

/// Options that mean something on one side only are refused on the other, not ignored.
void refuse_options(const Arguments& given, std::initializer_list<std::string_view> names, std::string_view why) {
    for (const std::string_view name : names)
        if (given.has(name)) throw Error{Fault::usage, fmt::format("{}: {}", name, why), "see: sevctl launch --help"};
}

Answer run(const Arguments& given, Console& console) {
    if (given.has("--image") + given.has("--xl-cfg") + given.has("--domid") != 1)
        throw Error{Fault::usage, "which guest? Give exactly one of --image, --xl-cfg and --domid", "see: sevctl launch --help"};
    if (!given.has("--domid")) refuse_options(given, {"--uuid", "--leave-paused"}, "goes with --domid");
    if (!given.has("--psp")) {
        refuse_options(given, {"--state", "--bundle", "--show-slot", "--fault"}, "goes with --psp; sevd has its own PSP, named in its configuration");
        return launch_by_daemon(given, console);
    }
    refuse_options(given, {"--xl-cfg", "--domid"}, "a Xen domain is launched by sevd; leave --psp out");
    refuse_options(given, {"--policy", "--no-wait", "--timeout", "--socket"},
                   "goes with sevd; with --psp the owner's policy file is given by --owner");
    if (!given.has("--state")) throw Error{Fault::usage, "--state is missing: --psp emulated needs a chip", "sev-emulator create makes one"};
    return run_here(given, console);
}

} // namespace

const Command launch_command{
    .name = "launch",
    .summary = "launch a guest, attested: measured, judged, and given its secrets",
    .text =
        "Asks sevd for a launch and shows it live, a line a step: the platform's evidence, the owner's session, LAUNCH_START to LAUNCH_MEASURE, the "
        "owner's verdict "
        "with every check, and after a positive verdict alone the sealed secrets, LAUNCH_FINISH and the start of the guest. After a negative one the "
        "guest is destroyed "
        "before its first instruction. Exit status 0: it runs and was attested. 1: the owner's answer is no. Needs root.\n\n"
        "With --psp emulated no daemon is needed: host and guest owner live in this one process, which is right for trying things out with image "
        "guests. The emulated PSP is no AMD "
        "hardware and proves nothing about the machine it runs on; an owner accepts it only when its policy names the emulated root by fingerprint.",
    .example = "sevctl launch --xl-cfg guest.cfg --owner vault --policy web",
    .arguments = arguments,
    .run = run,
    .handles_keys = true,
};

} // namespace sev::cli
