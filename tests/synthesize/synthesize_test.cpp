#include "core/synthesize/synthesize.hpp"

#include "core/base/read_only_file.hpp"
#include "core/execute/engine.hpp"
#include "core/model/checkpoint.hpp"
#include "core/text/tokenizer.hpp"
#include "plugins/plugin_host.hpp"
#include "tests/model/temporary_folder.hpp"
#include "tests/synthesize/tiny_shapes.hpp"

#include <cmath>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <set>

using namespace moira;

namespace {

namespace fs = std::filesystem;

synthesis tiny(const temporary_folder& place, const char* name = "moe-1b") {
    synthesis what;
    what.shape = tiny_shape(name);
    what.folder = place.path() / "model";
    what.seed = 5;
    return what;
}

/// All files of a folder, one after another.
std::map<std::string, std::string> files_of(const fs::path& folder) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(folder))
        files[entry.path().filename().string()] = read_text_file(entry.path(), 1 << 24).value();
    return files;
}

std::size_t entries(const fs::path& folder) {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

struct watched_pass final : forward_observer {
    void hidden(std::int32_t layer, std::span<const float> rows) override {
        double squares = 0;
        for (const float value : rows)
            squares += double{value} * value;
        size[layer] = std::sqrt(squares / static_cast<double>(rows.size()));
    }
    void routing(std::int32_t, std::span<const std::int32_t> ids) override { experts.insert(ids.begin(), ids.end()); }
    void logits(std::int32_t, std::span<const float> values) override { last.assign(values.begin(), values.end()); }

    std::map<std::int32_t, double> size;
    std::set<std::int32_t> experts;
    std::vector<float> last;
};

} // namespace

TEST_CASE("a model holds exactly what the reader of its architecture expects") {
    for (const bool fp8 : {false, true}) {
        const temporary_folder place;
        auto what = tiny(place);
        what.fp8 = fp8;
        const auto made = synthesize(what);
        REQUIRE_MESSAGE(made, made.error().message);
        const auto opened = checkpoint::open(what.folder);
        REQUIRE_MESSAGE(opened, opened.error().message);
        CHECK(opened->notices().empty());
        CHECK(opened->tensors().size() == made->tensors);
        CHECK(opened->tensor_bytes_total() == made->bytes);
        CHECK(opened->shape().layers == 2);
        CHECK(opened->shape().moe.experts == 8);
        CHECK(opened->shape().eos == std::vector<token_id>{299});
        CHECK(opened->shape().bos == 297);
        const auto config = nlohmann::json::parse(read_text_file(what.folder / "config.json", 1 << 20).value());
        CHECK(config.contains("quantization_config") == fp8);
    }
}

TEST_CASE("every shape is written") {
    for (const auto& shape : synthetic_shapes())
        for (const bool fp8 : {false, true}) {
            const temporary_folder place;
            auto what = tiny(place, shape.name.c_str());
            what.fp8 = fp8;
            const auto made = synthesize(what);
            REQUIRE_MESSAGE(made, made.error().message);
            const auto header = read_safetensors_header(what.folder / "model-00001-of-00001.safetensors");
            REQUIRE_MESSAGE(header, header.error().message);
            CHECK(header->tensors.size() == made->tensors);
            CHECK(entries(what.folder) == 6);
            CHECK(entries(place.path()) == 1);
        }
}

TEST_CASE("the same seed gives the same bytes with any number of threads") {
    const temporary_folder first, second, third;
    auto what = tiny(first);
    what.fp8 = true;
    REQUIRE(synthesize(what));
    what.folder = second.path() / "model";
    what.threads = 3;
    REQUIRE(synthesize(what));
    CHECK(files_of(first.path() / "model") == files_of(second.path() / "model"));
    what.folder = third.path() / "model";
    what.seed = 6;
    REQUIRE(synthesize(what));
    CHECK(files_of(first.path() / "model") != files_of(third.path() / "model"));
}

TEST_CASE("a model of several files holds the same tensors") {
    const temporary_folder one, several;
    auto what = tiny(one);
    REQUIRE(synthesize(what));
    what.folder = several.path() / "model";
    what.shard_bytes_max = 40'000;
    const auto made = synthesize(what);
    REQUIRE(made);
    CHECK(made->shards > 2);
    const auto a = checkpoint::open(one.path() / "model"), b = checkpoint::open(what.folder);
    REQUIRE(a);
    REQUIRE(b);
    REQUIRE(a->tensors().size() == b->tensors().size());
    for (const auto& [name, tensor] : a->tensors()) {
        std::vector<std::byte> left(tensor.bytes), right(tensor.bytes);
        REQUIRE(b->find(name));
        REQUIRE(a->read(tensor, left));
        REQUIRE(b->read(*b->find(name), right));
        CHECK_MESSAGE(left == right, name);
    }
}

TEST_CASE("a model runs: its states keep their size, its router spreads, its logits differ") {
    const temporary_folder place;
    auto what = tiny(place);
    what.shape.layers = 4;
    REQUIRE(synthesize(what));
    compute_pool pool({1, 0});
    plugin_host::options wanted;
    wanted.folders = {MOIRA_BUILD_PLUGINS};
    wanted.forced_plugin = "cpu_reference";
    const auto host = plugin_host::open(wanted, pool);
    REQUIRE(host);
    auto model = engine::load(checkpoint::open(what.folder).value(), **host, engine_options{});
    REQUIRE_MESSAGE(model, model.error().message);
    std::vector<token_id> tokens;
    for (token_id token = 0; token < 40; ++token)
        tokens.push_back(token * 7);
    watched_pass seen;
    const auto outcome = (*model)->run_step(plan_prompt_rows(tokens, 0, 40, (*model)->limits()), &seen);
    REQUIRE_FALSE(outcome.failure);
    for (const auto& [layer, size] : seen.size) {
        CHECK_MESSAGE(size > 0.5, "layer ", layer);
        CHECK_MESSAGE(size < 5.0, "layer ", layer);
    }
    CHECK(seen.experts.size() == 8);
    double squares = 0;
    for (const float value : seen.last)
        squares += double{value} * value;
    const double spread = std::sqrt(squares / static_cast<double>(seen.last.size()));
    CHECK(spread > 0.5);
    CHECK(spread < 2.0);
}

TEST_CASE("the tokenizer has a text for every id and a token for every byte") {
    for (const auto& shape : synthetic_shapes()) {
        const temporary_folder place;
        const auto what = tiny(place, shape.name.c_str());
        REQUIRE(synthesize(what));
        const auto text = tokenizer::load(what.folder);
        REQUIRE_MESSAGE(text, text.error().message);
        CHECK(text->vocabulary_size() == 300);
        std::string all_bytes;
        for (int i = 0x20; i < 0x7f; ++i)
            all_bytes += static_cast<char>(i);
        all_bytes += "\n\xC3\xA9\xF0\x9F\x98\x80";
        const auto ids = text->encode(all_bytes, tokenizer::special::skip);
        REQUIRE(ids);
        CHECK(ids->size() == all_bytes.size());
        CHECK(text->decode(*ids) == all_bytes);
        const auto with_special = text->encode("a", tokenizer::special::add);
        REQUIRE(with_special);
        const bool adds_bos = shape.name == "deepseek-v2-lite";
        CHECK(with_special->size() == (adds_bos ? 2 : 1));
        CHECK((with_special->front() == 297) == adds_bos);
    }
}

TEST_CASE("only a folder that was made this way is replaced, and only when asked to") {
    const temporary_folder place;
    auto what = tiny(place);
    REQUIRE(synthesize(what));
    const auto before = files_of(what.folder);
    what.seed = 9;
    CHECK(synthesize(what).error().code == errc::invalid_argument);
    CHECK(files_of(what.folder) == before);
    what.replace = true;
    REQUIRE(synthesize(what));
    CHECK(files_of(what.folder) != before);
    CHECK(entries(place.path()) == 1);

    const temporary_folder foreign;
    foreign.write("config.json", R"({"model_type": "qwen3_moe"})");
    foreign.write("letters.txt", "dear");
    what.folder = foreign.path();
    CHECK(synthesize(what).error().code == errc::invalid_argument);
    CHECK(read_text_file(foreign.path() / "letters.txt", 100) == "dear");

    foreign.write("file", "");
    what.folder = foreign.path() / "file";
    CHECK(synthesize(what).error().code == errc::invalid_argument);
}

TEST_CASE("an empty folder is taken") {
    const temporary_folder place;
    auto what = tiny(place);
    fs::create_directory(what.folder);
    REQUIRE(synthesize(what));
    CHECK(entries(what.folder) == 6);
}

TEST_CASE("an interrupted synthesis leaves nothing behind") {
    const temporary_folder place;
    auto what = tiny(place);
    what.interrupted = [] { return true; };
    const auto made = synthesize(what);
    REQUIRE_FALSE(made);
    CHECK(made.error().code == errc::cancelled);
    CHECK(entries(place.path()) == 0);
}

TEST_CASE("progress ends at the whole") {
    const temporary_folder place;
    auto what = tiny(place);
    std::uint64_t written = 0, total = 0;
    what.progress = [&](std::uint64_t now, std::uint64_t all) {
        CHECK(now >= written);
        written = now;
        total = all;
    };
    REQUIRE(synthesize(what));
    CHECK(written == total);
    CHECK(total == fs::file_size(what.folder / "model-00001-of-00001.safetensors"));
}

TEST_CASE("dimensions that cannot be are refused before anything is written") {
    const temporary_folder place;
    auto what = tiny(place, "deepseek-v2-lite");
    what.shape.layers = 1; // dense
    CHECK(synthesize(what).error().code == errc::invalid_argument);
    what = tiny(place);
    what.shape.layers = 0;
    CHECK(synthesize(what).error().code == errc::invalid_argument);
    what = tiny(place);
    what.shape.vocabulary = 200;
    CHECK(synthesize(what).error().code == errc::invalid_argument);
    what = tiny(place);
    what.shape.eos = 300;
    CHECK(synthesize(what).error().code == errc::invalid_argument);
    CHECK(entries(place.path()) == 0);
}
