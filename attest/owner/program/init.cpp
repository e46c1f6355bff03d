// SPDX-License-Identifier: Apache-2.0
// `sev-owner init`, `sev-owner check` and `sev-owner key …`.
#include <array>

#include <fmt/format.h>
#include <sys/stat.h>

#include "attest/owner/program/commands.hpp"
#include "attest/owner/program/instance.hpp"
#include "attest/sign_jws.hpp"

namespace sev::attest::owner {
namespace {

using cli::Kind;

void write_owner_key(const Path& path) {
    const P384Key key = P384Key::generate();
    write_file(path, key.to_der().reveal(), Visibility::secret, Existing::refuse);
}

void make_private_folder(const Path& path) {
    if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return;
    throw Error{Fault::system, fmt::format("{}: {}", path.string(), std::error_code{errno, std::generic_category()}.message())};
}

constexpr std::array init_arguments{
    cli::Argument{.name = "DIR",
                  .kind = Kind::directory,
                  .metavar = "DIR",
                  .help = "Folder for configuration, keys and policies; made with mode 0700 when absent. Nothing in it is replaced.",
                  .required = true},
    cli::Argument{.name = "--state", .kind = Kind::directory, .metavar = "DIR", .help = "Folder of the store. Default: DIR itself."},
    cli::Argument{.name = "--socket", .kind = Kind::path, .metavar = "PATH", .help = "Unix socket to serve on. Default: none is configured."},
    cli::Argument{
        .name = "--client-uid", .kind = Kind::number, .metavar = "UID", .help = "Let this user ask over the Unix socket, under any policy."},
    cli::Argument{.name = "--client-stdio",
                  .kind = Kind::text,
                  .metavar = "NAME",
                  .help = "Let this channel ask through sev-owner exchange, under any policy."},
};

cli::Answer run_init(const cli::Arguments& given, cli::Console& console) {
    const Path folder = std::filesystem::absolute(given.text("DIR"));
    const Path state = std::filesystem::absolute(given.text_if("--state").value_or(given.text("DIR")));
    for (const char* name : {"owner.json", "owner.key", "seal.keys"})
        if (std::filesystem::exists(folder / name))
            throw Error{Fault::usage, fmt::format("{} exists already", (folder / name).string()), "init makes a new owner; it replaces none"};
    json::Value config = with_format(OwnerConfig::format, OwnerConfig::version);
    config["key"] = "owner.key";
    config["seal_keys"] = "seal.keys";
    config["policies"] = {{"folder", "policies"}};
    config["store"] = {{"sqlite", (state / "owner.db").string()}};
    config["listen"] = json::Value::array();
    if (const auto socket = given.text_if("--socket"))
        config["listen"].push_back({{"unix", std::filesystem::absolute(*socket).string()}, {"mode", "0660"}});
    config["clients"] = json::Value::array();
    if (const auto uid = given.number_if("--client-uid", 0, UINT32_MAX)) config["clients"].push_back({{"uid", *uid}, {"policies", "any"}});
    if (const auto name = given.text_if("--client-stdio")) config["clients"].push_back({{"stdio", *name}, {"policies", "any"}});
    config["viewers"] = {{"uids", json::Value::array()}, {"certificates", json::Value::array()}};
    OwnerConfig::from_json(config, "configuration", folder); // what we write, we can read

    make_private_folder(folder);
    make_private_folder(state);
    make_private_folder(folder / "policies");
    write_owner_key(folder / "owner.key");
    write_file(folder / "seal.keys", SealKeys::fresh().serialize().reveal(), Visibility::secret, Existing::refuse);
    write_file(folder / "owner.json", as_bytes(json::pretty(config)), Visibility::secret, Existing::refuse);
    const OwnerKey key = owner_key(load_owner_key(folder / "owner.key"));
    console.print(fmt::format("made {}\nowner key {}\n", (folder / "owner.json").string(), key.thumbprint()));
    console.note("hosts pin the owner's public key: sev-owner key show");
    return cli::Answer::yes;
}

constexpr std::array check_arguments{config_option};

cli::Answer run_check(const cli::Arguments& given, cli::Console& console) {
    Instance instance{given};
    std::size_t bad = 0;
    console.print(fmt::format("configuration, keys and store are in order; owner key {}\n", instance.service().key().thumbprint()));
    const auto names = instance.policies().names();
    for (const std::string& name : names) {
        try {
            const auto snapshot = instance.policies().get(name);
            console.print(fmt::format("policy {}: {} references, {} secrets, snapshot {}\n", name, snapshot->references.size(),
                                      snapshot->policy.secrets.size(), hex(snapshot->digest)));
            for (const LintFinding& finding : lint(snapshot->policy, now()))
                console.warn(fmt::format("policy {}: {}: {}", name, finding.id, finding.text));
        } catch (const Error& error) {
            ++bad;
            console.warn(error.what());
        }
    }
    if (names.empty()) console.warn("there is no policy: every request will be refused");
    if (instance.config().clients.list().empty()) console.warn("no client is configured: every request will be refused");
    return bad == 0 ? cli::Answer::yes : cli::Answer::no;
}

constexpr std::array key_new_arguments{
    cli::Argument{.name = "FILE",
                  .kind = Kind::output,
                  .metavar = "FILE",
                  .help = "The new signing key (P-384, DER, mode 0600). Never replaced.",
                  .required = true},
};

cli::Answer run_key_new(const cli::Arguments& given, cli::Console& console) {
    const Path path = given.text("FILE");
    write_owner_key(path);
    console.print(owner_key(load_owner_key(path)).thumbprint() + "\n");
    return cli::Answer::yes;
}

constexpr std::array key_show_arguments{
    config_option,
    cli::Argument{.name = "--key",
                  .kind = Kind::input,
                  .metavar = "FILE",
                  .help = "This signing key, rather than the configuration's.",
                  .content = cli::Content::opaque,
                  .limit_bytes = 16 * 1024},
};

cli::Answer run_key_show(const cli::Arguments& given, cli::Console& console) {
    const Path path =
        given.has("--key") ? Path{given.text("--key")} : OwnerConfig::load(given.text_if("--config").value_or(std::string{default_config})).key;
    console.print(owner_key(load_owner_key(path)).to_json());
    return cli::Answer::yes;
}

constexpr std::array key_rotate_arguments{
    config_option,
    cli::Argument{.name = "--prepare",
                  .kind = Kind::flag,
                  .help = "Only draw a new key and add it to the key file, sealing nothing with it yet. Prints its id."},
    cli::Argument{.name = "--key",
                  .kind = Kind::text,
                  .metavar = "ID",
                  .help = "Seal with this key of the file, rather than with a new one."},
    cli::Argument{.name = "--retire", .kind = Kind::flag, .help = "Instead, drop the keys that nothing in the store needs any more."},
};

void write_seal_keys(const Instance& instance, const SealKeys& keys) {
    write_file(instance.config().seal_keys, keys.serialize().reveal(), Visibility::secret, Existing::replace);
}

cli::Answer run_key_rotate(const cli::Arguments& given, cli::Console& console) {
    if (int{given.has("--prepare")} + int{given.has("--key")} + int{given.has("--retire")} > 1)
        throw Error{Fault::usage, "key rotate: --prepare, --key and --retire are three steps, want one of them"};
    Instance instance{given};
    SealKeys& keys = instance.seal_keys();
    if (given.has("--prepare")) {
        const std::string id = keys.prepare();
        write_seal_keys(instance, keys);
        instance.store().note(operator_event("seal-key.prepared", fmt::format("key {}", id)), now());
        console.print(id + "\n");
        console.note(fmt::format("give the key file to the other instances, then: sev-owner key rotate --key {}", id));
        return cli::Answer::yes;
    }
    if (given.has("--retire")) {
        for (const std::string& id : instance.store().seal_keys_in_use())
            if (id != keys.current())
                throw Error{Fault::usage, fmt::format("seal key {} is still needed by the store", id),
                            "sev-owner key rotate, without --retire, seals everything anew"};
        const std::size_t before = keys.size();
        keys.retire();
        write_seal_keys(instance, keys);
        instance.store().note(operator_event("seal-key.retired", fmt::format("{} keys dropped", before - 1)), now());
        console.print(fmt::format("{} keys dropped; {} is left\n", before - 1, keys.current()));
        return cli::Answer::yes;
    }
    // the file first: a store sealed with a key that is in no file would be lost
    if (const auto id = given.text_if("--key")) keys.use(*id);
    else keys.rotate();
    write_seal_keys(instance, keys);
    const std::uint64_t count = instance.store().reseal(keys, operator_event("seal-key.rotated", fmt::format("key {}", keys.current())), now());
    console.print(fmt::format("new seal key {}; {} rows sealed anew\n", keys.current(), count));
    console.note("give the key file to the other instances, reload all (systemctl reload sev-owner), then: sev-owner key rotate --retire");
    return cli::Answer::yes;
}

} // namespace

const cli::Command init_command{
    .name = "init",
    .summary = "make a new owner: configuration, keys, folders",
    .text = "Makes a folder with a configuration, a new signing key, a new seal key and an empty folder of policies, all for this user alone. "
            "Nothing that exists is replaced. "
            "The configuration lets nobody in but whom the options name.",
    .example = "sev-owner init /etc/xen-sev-owner --state /var/lib/xen-sev-owner --socket /run/xen-sev-owner/owner.sock --client-uid 0",
    .arguments = init_arguments,
    .run = run_init,
    .handles_keys = true,
};

const cli::Command check_command{
    .name = "check",
    .summary = "check configuration, keys, store and policies",
    .text = "Opens everything that sev-owner serve would, computes every policy's reference values, and says what is wrong. Exit status 1 when a "
            "policy cannot be used.",
    .example = "sev-owner check --config /etc/xen-sev/owner.json",
    .arguments = check_arguments,
    .run = run_check,
    .handles_keys = true,
};

const cli::Command key_new_command{
    .name = "key new",
    .summary = "make a new signing key",
    .text = "Writes a new P-384 signing key in DER and prints its thumbprint (RFC 7638). openssl pkey -inform DER reads it.",
    .example = "sev-owner key new owner.key",
    .arguments = key_new_arguments,
    .run = run_key_new,
    .handles_keys = true,
};

const cli::Command key_show_command{
    .name = "key show",
    .summary = "print the owner's public key, for hosts to pin",
    .text = "Prints the public half of the signing key as a JWK (RFC 7517). This is what sevd's configuration has under \"owners\".",
    .example = "sev-owner key show > owner.jwk",
    .arguments = key_show_arguments,
    .run = run_key_show,
    .handles_keys = true,
};

const cli::Command key_rotate_command{
    .name = "key rotate",
    .summary = "change the key that seals what is stored",
    .text =
        "Draws a new seal key, writes it in front of the others in the key file, and seals every open session and every stored secret and policy "
        "anew under it. An instance that is serving meets the new key and reads its key file again by itself. The old keys stay in the file until "
        "--retire, because instances may seal with them until they are reloaded. The signing key is not touched.\n\n"
        "Where several instances have key files of their own, none may meet a key that its file lacks: first --prepare, and copy the file to each; "
        "then --key with the id that --prepare printed; copy the file again, reload each; then --retire.",
    .example = "sev-owner key rotate",
    .arguments = key_rotate_arguments,
    .run = run_key_rotate,
    .handles_keys = true,
};

} // namespace sev::attest::owner
