// SPDX-License-Identifier: Apache-2.0
#include "attest/protocol/bundle.hpp"
#include "attest/protocol/secret_packet_message.hpp"
#include "attest/protocol/verdict.hpp"
#include "tests/attest/support.hpp"

using namespace sev;
using namespace sev::attest;

namespace {

/// Every object inside `value`, by JSON pointer, the whole first.
void objects_of(const json::Value& value, const std::string& at, std::vector<std::string>& out) {
    if (value.is_object()) out.push_back(at);
    if (value.is_object())
        for (const auto& [key, child] : value.items()) objects_of(child, at + "/" + key, out);
    if (value.is_array())
        for (std::size_t i = 0; i < value.size(); ++i) objects_of(value[i], fmt::format("{}/{}", at, i), out);
}

json::Value& at(json::Value& value, const std::string& pointer) { return value[json::Value::json_pointer{pointer}]; }

/// What every message must do: come back the same; refuse another format and version, an unknown key in any of its objects, a missing
/// or wrong-typed value of any key (but for those in `optional`), no object, too many bytes, and every truncation.
template <class Message>
void exercise(const json::Value& good, const std::vector<std::string>& optional) {
    const auto read = [](const json::Value& value) { return Message::from_json(value, "m"); };
    CHECK(read(good).to_json() == good);
    const std::string text = json::pretty(good);
    CHECK(read_message<Message>(text, "m") == read(good));
    for (std::size_t length = 0; length + 1 < text.size(); length += 1 + text.size() / 300)
        CHECK_THROWS_AS(read_message<Message>(std::string_view{text}.substr(0, length), "m"), Error);
    CHECK_THROWS_WITH_AS(read_message<Message>(text + std::string(Message::limit_bytes, ' '), "m"), doctest::Contains("more than the limit of"),
                         Error);
    CHECK_THROWS_AS(read(json::Value::array()), Error);
    std::vector<std::string> objects;
    objects_of(good, "", objects);
    for (const std::string& pointer : objects) {
        CAPTURE(pointer);
        json::Value changed = good;
        at(changed, pointer)["surplus"] = 1;
        CHECK_THROWS_WITH_AS(read(changed), doctest::Contains("\"surplus\" is not a key that is known here"), Error);
        const std::vector<std::string> keys = [&] {
            std::vector<std::string> out;
            for (const auto& [key, value] : at(changed, pointer).items()) out.push_back(key);
            return out;
        }();
        for (const std::string& key : keys) {
            if (key == "surplus") continue;
            CAPTURE(key);
            json::Value missing = good;
            at(missing, pointer).erase(key);
            if (std::ranges::find(optional, key) == optional.end()) CHECK_THROWS_WITH_AS(read(missing), doctest::Contains(key.c_str()), Error);
            else CHECK_NOTHROW(read(missing));
            for (const json::Value& wrong :
                 {json::Value(nullptr), json::Value(-1), json::Value(1.5), json::Value("\x01"), json::Value::array({json::Value::array()})}) {
                json::Value bad = good;
                at(bad, pointer)[key] = wrong;
                CAPTURE(wrong.dump());
                CHECK_THROWS_AS(read(bad), Error);
            }
        }
    }
    json::Value other = good;
    other["format"] = "xen-sev/other";
    CHECK_THROWS_WITH_AS(read(other), fmt::format("m: format is \"xen-sev/other\", want \"{}\"", Message::format).c_str(), Error);
    other = good;
    other["version"] = 2U;
    CHECK_THROWS_WITH_AS(read(other), "m: version is 2, want 1", Error);
}

json::Value seed(const char* target, const char* name) {
    return json::parse(read_text(Path{"tests/fuzz/corpus"} / target / name, 1U << 20), name);
}

} // namespace

TEST_CASE("messages: made by Python, read, and written the same; everything strange is refused") {
    const json::Value bundle = test::attest_json("bundle.json");
    exercise<PlatformEvidence>(bundle.at("platform"), {"chip_id"});
    exercise<SessionOffer>(bundle.at("offer"), {});
    exercise<LaunchEvidence>(bundle.at("launch"), {"descriptor", "gpa", "source"});
    exercise<LaunchEvidence>(seed("protocol_messages", "report"), {});
    exercise<LaunchDescriptor>(seed("launch_descriptor", "all-fields"),
                               {"gpa", "source", "vcpus", "vmsa_profile", "page_order", "xen_version", "toolstack_version"});
    exercise<Verdict>(seed("protocol_messages", "verdict"), {"root", "reference"});
    exercise<SecretPacketMessage>(seed("protocol_messages", "packet"), {"gpa"});
    exercise<Bundle>(bundle, {"chip_id", "descriptor", "gpa", "source"});
}

TEST_CASE("messages: lengths of binary fields") {
    const json::Value bundle = test::attest_json("bundle.json");
    json::Value offer = bundle.at("offer");
    offer["session"] = base64(Bytes(127));
    CHECK_THROWS_WITH_AS(SessionOffer::from_json(offer, "m"), "m: session has 127 bytes, want 128", Error);
    offer["session"] = base64(Bytes(129));
    CHECK_THROWS_WITH_AS(SessionOffer::from_json(offer, "m"), "m: session has 129 bytes, want 128", Error);
    offer = bundle.at("offer");
    offer["policy"] = 0x1'0000'0000U;
    CHECK_THROWS_AS(SessionOffer::from_json(offer, "m"), Error);
    json::Value launch = bundle.at("launch");
    launch["measurement"] = base64(Bytes(47));
    CHECK_THROWS_WITH_AS(LaunchEvidence::from_json(launch, "m"), "m: measurement has 47 bytes, want 48", Error);
    launch = bundle.at("launch");
    launch["report"] = base64(Bytes(208));
    CHECK_THROWS_WITH_AS(LaunchEvidence::from_json(launch, "m"), doctest::Contains("want exactly one of them"), Error);
    launch.erase("measurement");
    CHECK_THROWS_WITH_AS(LaunchEvidence::from_json(launch, "m"), doctest::Contains("m: report: "), Error);
    json::Value platform = bundle.at("platform");
    platform["chain"] = base64(Bytes(PlatformEvidence::chain_limit_bytes + 1));
    CHECK_THROWS_AS(PlatformEvidence::from_json(platform, "m"), Error);
    platform = bundle.at("platform");
    platform["level"] = 6U;
    CHECK_THROWS_WITH_AS(PlatformEvidence::from_json(platform, "m"), "m: level is 6, want 0 … 5", Error);
    json::Value packet = seed("protocol_messages", "packet");
    for (const std::size_t size : {0U, 1U, 17U, 0x4010U}) {
        packet["data"] = base64(Bytes(size));
        CHECK_THROWS_AS(SecretPacketMessage::from_json(packet, "m"), Error);
    }
    packet["data"] = base64(Bytes(0x4000));
    CHECK_NOTHROW(SecretPacketMessage::from_json(packet, "m"));
    packet["offset"] = 8U;
    CHECK_THROWS_WITH_AS(SecretPacketMessage::from_json(packet, "m"), "m: offset is 8, want a multiple of 16", Error);
}

TEST_CASE("launch descriptor: limits") {
    json::Value descriptor = seed("launch_descriptor", "image");
    const json::Value region = descriptor.at("regions").at(0);
    for (std::size_t i = descriptor["regions"].size(); i < LaunchDescriptor::region_limit; ++i) descriptor["regions"].push_back(region);
    CHECK(LaunchDescriptor::from_json(descriptor, "m").regions.size() == LaunchDescriptor::region_limit);
    descriptor["regions"].push_back(region);
    CHECK_THROWS_WITH_AS(LaunchDescriptor::from_json(descriptor, "m"), "m: regions has 8193 elements, more than the limit of 8192", Error);
    descriptor = seed("launch_descriptor", "image");
    for (const unsigned vcpus : {0U, 4097U}) {
        descriptor["vcpus"] = vcpus;
        CHECK_THROWS_AS(LaunchDescriptor::from_json(descriptor, "m"), Error);
    }
    for (const GuestKind kind : {GuestKind::qemu, GuestKind::xen_pvh, GuestKind::xen_hvm, GuestKind::ovmf_pvh, GuestKind::image})
        CHECK(guest_kind_named(name(kind)) == kind);
    CHECK_FALSE(guest_kind_named("xen-pv").has_value());
}

TEST_CASE("verdict: trusted by its checks alone") {
    CHECK_FALSE(Verdict{}.trusted());
    json::Value verdict = seed("protocol_messages", "verdict");
    CHECK(Verdict::from_json(verdict, "m").trusted());
    verdict["checks"][0]["passed"] = false;
    CHECK_THROWS_WITH_AS(Verdict::from_json(verdict, "m"), "m: trusted is true, but the checks say false", Error);
    verdict["trusted"] = false;
    CHECK_FALSE(Verdict::from_json(verdict, "m").trusted());
    verdict["checks"] = json::Value::array();
    CHECK_FALSE(Verdict::from_json(verdict, "m").trusted());
    verdict["trusted"] = true;
    CHECK_THROWS_AS(Verdict::from_json(verdict, "m"), Error);
}

TEST_CASE("render: every line fits, every check is there, the answer is last") {
    test::FixtureLaunch launch;
    for (const bool good : {true, false}) {
        if (!good) launch.bundle.platform.chain.resize(1);
        const Verdict verdict = launch.judge().verdict;
        for (const std::size_t columns : {40U, 80U, 200U}) {
            const std::string text = render(verdict, columns);
            CHECK(text.ends_with(good ? "\nTRUSTED\n" : "\nNOT TRUSTED\n"));
            for (const psp::Check& check : verdict.checks)
                CHECK(text.find(fmt::format("{}  {}", check.passed ? "pass" : "FAIL", check.check)) != std::string::npos);
            for (std::size_t from = 0; from < text.size();) {
                const std::size_t end = text.find('\n', from);
                const auto line = std::string_view{text}.substr(from, end - from);
                CAPTURE(line);
                CHECK(std::ranges::count_if(line, [](char c) { return (c & 0xC0) != 0x80; }) <= static_cast<std::ptrdiff_t>(columns));
                from = end + 1;
            }
        }
    }
    CHECK(render(Verdict{}).ends_with("NOT TRUSTED\n"));
    Verdict rude;
    rude.checks.push_back({"x", true, "\x1b[31m"});
    CHECK(render(rude).find('\x1b') == std::string::npos);
}

TEST_CASE("render: failures alone still show every failure, the counts, and the ids of what remains weak") {
    test::FixtureLaunch launch;
    const std::string good = render(launch.judge().verdict, 80, Detail::failures);
    CHECK(good.find("FAIL") == std::string::npos);
    CHECK(good.starts_with(fmt::format("pass  {0} of {0} checks\n", launch.judge().verdict.checks.size())));
    CHECK(good.ends_with("\nTRUSTED\n"));
    for (const AdvisoryFinding& finding : launch.judge().verdict.advisories) CHECK(good.find(finding.id) != std::string::npos);
    launch.bundle.platform.chain.resize(1);
    const Verdict bad = launch.judge().verdict;
    const std::string text = render(bad, 80, Detail::failures);
    CHECK(text.ends_with("\nNOT TRUSTED\n"));
    for (const psp::Check& check : bad.checks) CHECK((text.find("FAIL  " + check.check) != std::string::npos) == !check.passed);
    CHECK(render(Verdict{}, 80, Detail::failures) ==
          "pass  0 of 0 checks\nlevel L0: no launch on a platform; digests and an emulated PSP\nNOT TRUSTED\n");
}

TEST_CASE("times: the same as Python's, and only this form") {
    for (const json::Value& one : test::answers().at("times")) {
        const Time time{std::chrono::seconds{one.at(0).get<std::int64_t>()}};
        CHECK(text(time) == one.at(1).get<std::string>());
        CHECK(parse_time(one.at(1).get<std::string>(), "t") == time);
    }
    for (const char* bad : {"", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z",
                            "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
                            "2026-01-01 00:00:00Z", "2026-1-01T00:00:00ZZ", "-026-01-01T00:00:00Z"})
        CHECK_THROWS_AS(parse_time(bad, "t"), Error);
    CHECK_THROWS_WITH_AS(parse_time("now", "policy: not_after"), "policy: not_after: time is \"now\", want YYYY-MM-DDThh:mm:ssZ", Error);
}

TEST_CASE("names: printable ASCII, 1 to 128 bytes") {
    CHECK(checked_name("a b", "n") == "a b");
    CHECK(checked_name(std::string(128, 'a'), "n").size() == 128);
    for (const std::string& bad :
         {std::string{}, std::string(129, 'a'), std::string{" a"}, std::string{"a "}, std::string{"a\n"}, std::string{"ä"}, std::string(1, '\0')})
        CHECK_THROWS_AS(checked_name(bad, "n"), Error);
}

TEST_CASE("levels: nothing below L3 says that memory is encrypted") {
    for (unsigned level = 0; level <= highest_level; ++level) {
        CHECK(level_text(level).starts_with(fmt::format("L{}: ", level)));
        CHECK((level_text(level).find("memory is encrypted") != std::string::npos) == (level >= 3));
    }
    CHECK_THROWS_AS(level_text(6), Error);
    for (const Backend backend : {Backend::emulated, Backend::ccp, Backend::xen}) CHECK(backend_named(name(backend)) == backend);
}
