#include "plugins/plugin_host.hpp"

#include <algorithm>
#include <cstdlib>
#include <doctest/doctest.h>
#include <fstream>
#include <iterator>
#include <unistd.h>

using namespace moira;
namespace fs = std::filesystem;

namespace {

const fs::path tiny = MOIRA_TINY_PLUGINS;

struct opened {
    compute_pool pool{{1, 0}};
    result<std::unique_ptr<plugin_host>> host;

    explicit opened(plugin_host::options wanted) : host(plugin_host::open(wanted, pool)) {}
};

plugin_host::options in(std::vector<fs::path> folders, std::string forced = {}) {
    return {std::move(folders), std::move(forced), "cpu"};
}

const found_plugin* find(const plugin_host& host, const fs::path& file) {
    const auto& found = host.found();
    const auto at =
        std::find_if(found.begin(), found.end(), [&](const found_plugin& each) { return each.file == file; });
    return at == found.end() ? nullptr : &*at;
}

moira_op_header op(std::uint32_t kind) {
    return {sizeof(moira_op_header), kind, 1};
}

/// A folder of its own, gone at the end.
struct temporary_folder {
    fs::path path = fs::temp_directory_path() / ("moira_plugin_host_test_" + std::to_string(::getpid()));
    temporary_folder() {
        fs::remove_all(path);
        fs::create_directories(path);
    }
    ~temporary_folder() { fs::remove_all(path); }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;
};

} // namespace

TEST_CASE("good plugins are opened, best first; unfit ones and other device classes are not") {
    opened run(in({tiny / "good"}));
    REQUIRE(run.host);
    const plugin_host& host = **run.host;
    REQUIRE(host.found().size() == 5);
    CHECK(host.memory_provider().plugin == "tiny_b");
    CHECK(host.memory_provider().device_class == "cpu");
    CHECK(host.memory_provider().api != nullptr);
    CHECK(host.memory_provider().device != nullptr);
    for (const char* file : {"a.so", "b.so", "c.so"})
        CHECK(find(host, tiny / "good" / file)->open);
    const found_plugin& unfit = *find(host, tiny / "good" / "unfit.so");
    CHECK_FALSE(unfit.open);
    CHECK(unfit.score == 0);
    CHECK(unfit.reason == "needs another processor");
    const found_plugin& elsewhere = *find(host, tiny / "good" / "elsewhere.so");
    CHECK_FALSE(elsewhere.open);
    CHECK(elsewhere.device_class == "fake");
    CHECK(elsewhere.score == 99);
}

TEST_CASE("plugins are found in the order of their names") {
    opened run(in({tiny / "good"}));
    REQUIRE(run.host);
    const auto& found = (*run.host)->found();
    CHECK(std::is_sorted(found.begin(), found.end(),
                         [](const found_plugin& a, const found_plugin& b) { return a.file < b.file; }));
}

TEST_CASE("an op goes to the plugin with the best score for it, and everybody's answer is kept") {
    opened run(in({tiny / "good"}));
    REQUIRE(run.host);
    const auto norm = (*run.host)->choose(op(MOIRA_OP_RMSNORM));
    REQUIRE(norm);
    CHECK(norm->provider->plugin == "tiny_c"); // 9 beats 7, although its plugin scores lowest
    CHECK(norm->numerics_id == "tiny_c");
    CHECK(norm->row_exact);
    REQUIRE(norm->candidates.size() == 3);
    CHECK(norm->candidates[0].plugin == "tiny_c");
    CHECK(norm->candidates[0].score == 9);
    CHECK(norm->candidates[1].plugin == "tiny_a");
    CHECK(norm->candidates[2].plugin == "tiny_b");
    CHECK(norm->candidates[2].score <= 0);
    CHECK(norm->candidates[2].reason == "knows only one op");

    const auto embedding = (*run.host)->choose(op(MOIRA_OP_EMBEDDING));
    REQUIRE(embedding);
    CHECK(embedding->provider->plugin == "tiny_b");
}

TEST_CASE("an op that nobody runs is an error that names everybody asked") {
    opened run(in({tiny / "good"}));
    REQUIRE(run.host);
    const auto missing = (*run.host)->choose(op(MOIRA_OP_EXPERT_FFN));
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == errc::op_missing);
    for (const char* name : {"expert_ffn", "tiny_a", "tiny_b", "tiny_c"})
        CHECK(missing.error().message.find(name) != std::string::npos);
}

TEST_CASE("a forced plugin is the only one opened") {
    opened run(in({tiny / "good"}, "tiny_a"));
    REQUIRE(run.host);
    CHECK((*run.host)->memory_provider().plugin == "tiny_a");
    CHECK_FALSE(find(**run.host, tiny / "good" / "b.so")->open);
    const auto embedding = (*run.host)->choose(op(MOIRA_OP_EMBEDDING));
    REQUIRE_FALSE(embedding);
    CHECK(embedding.error().code == errc::op_missing);
}

TEST_CASE("forcing a plugin that is absent, unfit or of another class fails with the reason") {
    for (const auto& [name, words] : {std::pair{"nobody", "nobody"},
                                      {"tiny_unfit", "needs another processor"},
                                      {"tiny_elsewhere", "tiny_elsewhere"}}) {
        opened run(in({tiny / "good"}, name));
        REQUIRE_FALSE(run.host);
        CHECK(run.host.error().code == errc::op_missing);
        CHECK(run.host.error().message.find(words) != std::string::npos);
    }
}

TEST_CASE("another device class opens its own plugins only") {
    opened run({{tiny / "good"}, {}, "fake"});
    REQUIRE(run.host);
    CHECK((*run.host)->memory_provider().plugin == "tiny_elsewhere");
    CHECK_FALSE(find(**run.host, tiny / "good" / "a.so")->open);
}

TEST_CASE("a plugin that breaks its promises is refused with a reason, and disturbs nobody") {
    opened run(in({tiny / "bad", tiny / "good"}));
    REQUIRE(run.host);
    const plugin_host& host = **run.host;
    CHECK(host.memory_provider().plugin == "tiny_b");
    std::size_t refused = 0;
    for (const found_plugin& each : host.found()) {
        if (each.file.parent_path() != tiny / "bad")
            continue;
        CAPTURE(each.file.string());
        CHECK_FALSE(each.open);
        CHECK_FALSE(each.reason.empty());
        ++refused;
    }
    CHECK(refused == 15);
}

TEST_CASE("another interface version is named as such") {
    opened run(in({tiny / "bad", tiny / "good"}));
    REQUIRE(run.host);
    for (const char* file : {"other_major.so", "other_major_symbol.so", "other_minor.so", "table_major.so",
                             "table_short.so", "null_function.so", "endless_name.so", "endless_class.so",
                             "endless_reason.so", "strange_name.so", "empty_name.so"}) {
        CAPTURE(file);
        const found_plugin* found = find(**run.host, tiny / "bad" / file);
        REQUIRE(found != nullptr);
        CHECK(found->reason.find("plugin_incompatible") != std::string::npos);
    }
}

TEST_CASE("when every plugin is bad, opening fails and says why for each") {
    opened run(in({tiny / "bad"}));
    REQUIRE_FALSE(run.host);
    CHECK(run.host.error().code == errc::op_missing);
    CHECK(run.host.error().message.find("other_major.so") != std::string::npos);
    CHECK(run.host.error().message.find("device_fails.so") != std::string::npos);
}

TEST_CASE("of two plugins with one name, the first folder's wins") {
    opened run(in({tiny / "good", tiny / "twin"}));
    REQUIRE(run.host);
    CHECK(find(**run.host, tiny / "good" / "a.so")->open);
    const found_plugin& twin = *find(**run.host, tiny / "twin" / "a.so");
    CHECK_FALSE(twin.open);
    CHECK(twin.score == 0);
    CHECK((*run.host)->memory_provider().plugin == "tiny_b");
}

TEST_CASE("the same folder given twice opens each plugin once") {
    opened run(in({tiny / "good", tiny / "good"}));
    REQUIRE(run.host);
    const auto norm = (*run.host)->choose(op(MOIRA_OP_RMSNORM));
    REQUIRE(norm);
    CHECK(norm->candidates.size() == 3);
}

TEST_CASE("files that are no shared objects, or pieces of one, are reported") {
    const temporary_folder folder;
    std::ofstream(folder.path / "empty.so");
    std::ofstream(folder.path / "text.so") << "not a library";
    std::ofstream(folder.path / "readme.txt") << "ignored";
    fs::create_directory(folder.path / "folder.so");
    std::ifstream whole(tiny / "good" / "a.so", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(whole)), std::istreambuf_iterator<char>());
    REQUIRE(bytes.size() > 4096);
    for (const std::size_t kept :
         {std::size_t{4}, std::size_t{64}, std::size_t{100}, std::size_t{4096}, bytes.size() / 2})
        std::ofstream(folder.path / ("cut_" + std::to_string(kept) + ".so"), std::ios::binary)
            .write(bytes.data(), static_cast<std::streamsize>(kept));
    std::string lying = bytes;
    std::fill(lying.begin() + 32, lying.begin() + 40, '\xff'); // e_phoff
    std::ofstream(folder.path / "lying.so", std::ios::binary) << lying;

    opened run(in({folder.path, tiny / "good"}));
    REQUIRE(run.host);
    std::size_t reported = 0;
    for (const found_plugin& each : (*run.host)->found()) {
        if (each.file.parent_path() != folder.path)
            continue;
        CAPTURE(each.file.string());
        CHECK_FALSE(each.open);
        CHECK_FALSE(each.reason.empty());
        ++reported;
    }
    CHECK(reported == 8);
}

TEST_CASE("a missing folder is reported beside others, and an error alone") {
    opened beside(in({"/nonexistent/moira", tiny / "good"}));
    REQUIRE(beside.host);
    CHECK(find(**beside.host, "/nonexistent/moira") != nullptr);
    opened alone(in({"/nonexistent/moira"}));
    REQUIRE_FALSE(alone.host);
    CHECK(alone.host.error().code == errc::not_found);
    opened none(in({}));
    REQUIRE_FALSE(none.host);
    CHECK(none.host.error().code == errc::not_found);
}

TEST_CASE("a folder without plugins is op_missing") {
    const temporary_folder folder;
    opened run(in({folder.path}));
    REQUIRE_FALSE(run.host);
    CHECK(run.host.error().code == errc::op_missing);
}

TEST_CASE("an answer without an end counts as no") {
    opened run(in({tiny / "endless_support"}));
    REQUIRE(run.host);
    const auto norm = (*run.host)->choose(op(MOIRA_OP_RMSNORM));
    REQUIRE_FALSE(norm);
    CHECK(norm.error().code == errc::op_missing);
}

TEST_CASE("where no plugin of the wanted class can run, the other class is taken if there is one") {
    auto wanted = in({tiny / "good"});
    wanted.device_class = "fake";
    wanted.fallback_class = "cpu";
    CHECK((*opened(wanted).host)->memory_provider().device_class == "fake");
    wanted.forced_plugin = "tiny_a"; // which is none of the wanted class
    CHECK((*opened(wanted).host)->memory_provider().plugin == "tiny_a");
    wanted.forced_plugin.clear();
    wanted.device_class = "cuda";
    CHECK((*opened(wanted).host)->memory_provider().plugin == "tiny_b");
    wanted.fallback_class = "nowhere";
    const opened none(wanted);
    REQUIRE_FALSE(none.host);
    CHECK(none.host.error().code == errc::op_missing);
    CHECK(none.host.error().message.find("\"cuda\" or \"nowhere\"") != std::string::npos);
    wanted.fallback_class.clear();
    CHECK_FALSE(opened(wanted).host);
}
