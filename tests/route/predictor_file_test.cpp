#include "core/model/safetensors.hpp"
#include "core/route/heads_predictor.hpp"
#include "core/route/predictor_choice.hpp"
#include "core/route/predictor_file.hpp"
#include "core/route/ranked_predictor.hpp"

#include <cmath>
#include <doctest/doctest.h>
#include <fstream>
#include <limits>
#include <unistd.h>

using namespace moira;

namespace {

/// A folder that goes with the test.
class scratch_folder {
public:
    scratch_folder() {
        path_ = std::filesystem::temp_directory_path() / ("moira_predictor_" + std::to_string(::getpid()));
        std::filesystem::create_directories(path_);
    }
    ~scratch_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    std::filesystem::path operator/(const char* name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

const predictor_subject subject{"some-model", "00aa", 3, 4, 2, 6};

trained_predictor some_heads() {
    trained_predictor made;
    made.subject = subject;
    made.trained_tokens = 77;
    linear_heads all{3, 4, 6, 2, std::vector<linear_head>(6)};
    for (const std::size_t place : {0, 1, 3}) {
        all.heads[place] = {std::vector<float>(8, 0.5F), std::vector<float>(12, -1.0F), std::vector<float>(4, 2.0F)};
        all.heads[place].up[1] = static_cast<float>(place);
    }
    made.heads = std::move(all);
    return made;
}

trained_predictor some_history() {
    trained_predictor made;
    made.subject = subject;
    made.trained_tokens = 100;
    auto model = history_model::create({3, 4, 2});
    REQUIRE(model);
    const std::vector<std::uint16_t> token{0, 1, 2, 3, 1, 2};
    for (int row = 0; row < 100; ++row)
        (*model)->learn(1, {token, token}, std::span(token).subspan(2, 2));
    made.history = std::move(*model);
    return made;
}

/// A heads file, changed before it is written.
using tensors = std::vector<tensor_to_write>;
using metadata = std::map<std::string, std::string>;
template <class Change>
errc written_and_read(const std::filesystem::path& path, Change change) {
    static const std::vector<float> values(64, 0.25F);
    const auto tensor = [](const char* name, std::vector<std::int64_t> shape) {
        std::size_t count = 1;
        for (const auto side : shape)
            count *= static_cast<std::size_t>(side);
        return tensor_to_write{name, tensor_type::f32, shape, std::as_bytes(std::span(values).first(count))};
    };
    tensors all;
    for (const auto* head : {"1.0", "1.1", "2.0"}) {
        static std::vector<std::string> names;
        all.push_back(tensor((std::string(head) + ".up").c_str(), {4, 2}));
        all.push_back(tensor((std::string(head) + ".down").c_str(), {2, 6}));
        all.push_back(tensor((std::string(head) + ".bias").c_str(), {4}));
    }
    metadata about{{"format", "moira_predictor"},
                   {"version", "1"},
                   {"kind", "heads"},
                   {"model", "m"},
                   {"fingerprint", ""},
                   {"layers", "3"},
                   {"experts", "4"},
                   {"top_k", "2"},
                   {"hidden", "6"},
                   {"rank", "2"},
                   {"trained_tokens", "5"}};
    change(all, about);
    REQUIRE(write_safetensors(path, all, about));
    const auto read = read_predictor(path);
    return read ? errc{} : read.error().code;
}

} // namespace

TEST_CASE("heads and histories come back from a file as they were") {
    scratch_folder folder;
    const auto heads = some_heads();
    REQUIRE(write_predictor(folder / "heads", heads));
    const auto read = read_predictor(folder / "heads");
    REQUIRE_MESSAGE(read, read.error().message);
    CHECK(read->trained_tokens == 77);
    CHECK(read->subject.model == "some-model");
    CHECK(read->subject.fingerprint == "00aa");
    REQUIRE(read->heads);
    CHECK(read->heads->rank == 2);
    for (const std::size_t place : {0, 1, 3}) {
        CHECK(read->heads->heads[place].up == heads.heads->heads[place].up);
        CHECK(read->heads->heads[place].down == heads.heads->heads[place].down);
        CHECK(read->heads->heads[place].bias == heads.heads->heads[place].bias);
    }
    const auto history = some_history();
    REQUIRE(write_predictor(folder / "history", history));
    const auto again = read_predictor(folder / "history");
    REQUIRE_MESSAGE(again, again.error().message);
    REQUIRE(again->history);
    for (std::int32_t layer = 0; layer < 3; ++layer) {
        const auto a = history.history->weights(layer), b = again->history->weights(layer);
        CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
        CHECK(again->history->rows(layer) >= history_rows_least); // it may speak at once
    }
}

TEST_CASE("a predictor of another model is refused by name") {
    CHECK(check_subject("p", subject, subject));
    auto other = subject;
    other.fingerprint = "ffff";
    other.model = "other-model";
    const auto refused = check_subject("p", subject, other);
    CHECK(refused.error().code == errc::invalid_config);
    CHECK(refused.error().message.find("some-model") != std::string::npos);
    CHECK(refused.error().message.find("other-model") != std::string::npos);
    other.fingerprint = ""; // a recording does not know
    CHECK(check_subject("p", subject, other));
    for (auto* dimension : {&other.layers, &other.experts, &other.top_k, &other.hidden}) {
        ++*dimension;
        CHECK(check_subject("p", subject, other).error().code == errc::invalid_config);
        --*dimension;
    }
}

TEST_CASE("files that claim what they do not hold are refused") {
    scratch_folder folder;
    const auto path = folder / "hostile";
    const auto code = [&](auto change) { return written_and_read(path, change); };
    CHECK(code([](tensors&, metadata&) {}) == errc{});
    CHECK(code([](tensors&, metadata& about) { about["format"] = "other"; }) == errc::corrupt_file);
    CHECK(code([](tensors&, metadata& about) { about["version"] = "2"; }) == errc::unsupported);
    CHECK(code([](tensors&, metadata& about) { about["kind"] = "trees"; }) == errc::corrupt_file);
    CHECK(code([](tensors& all, metadata&) { all.pop_back(); }) == errc::corrupt_file);
    for (const auto* key : {"layers", "experts", "top_k", "hidden", "rank"})
        for (const auto* value : {"", "-1", "0", "4294967296", "99999999999999999999", "7x", "16777216"}) {
            CAPTURE(key);
            CAPTURE(value);
            CHECK(code([&](tensors&, metadata& about) { about[key] = value; }) == errc::corrupt_file);
        }
    CHECK(code([](tensors&, metadata& about) { about.erase("rank"); }) == errc::corrupt_file);
    CHECK(code([](tensors& all, metadata&) { all[0].type = tensor_type::i32; }) == errc::corrupt_file);
    const std::vector<float> wild(8, std::numeric_limits<float>::quiet_NaN());
    CHECK(code([&](tensors& all, metadata&) { all[0].bytes = std::as_bytes(std::span(wild)); }) == errc::corrupt_file);
    // A history whose windows are those of another version.
    CHECK(code([](tensors&, metadata& about) {
              about["kind"] = "history";
              about["back"] = "1";
              about["ahead"] = "1";
          }) == errc::corrupt_file);
    // A history of a model that would take terabytes.
    CHECK(code([](tensors&, metadata& about) {
              about["kind"] = "history";
              about["experts"] = "16000";
              about["back"] = about["ahead"] = "1";
          }) == errc::corrupt_file);
    std::ofstream(path) << "no safetensors at all";
    CHECK(read_predictor(path).error().code == errc::corrupt_file);
    CHECK(read_predictor(folder / "absent").error().code == errc::not_found);
}

TEST_CASE("a recording takes only predictors of its own model, and heads only where there are states") {
    scratch_folder folder;
    REQUIRE(write_predictor(folder / "heads", some_heads()));
    REQUIRE(write_predictor(folder / "history", some_history()));
    route_trace trace{3, 4, 2, 0, {0, 1, 2}, {}};
    route_sequence sequence;
    sequence.tokens = 1;
    sequence.ids = {0, 1, 1, 2, 2, 3};
    sequence.weights.assign(6, 0.5F);
    trace.sequences.push_back(sequence);
    const auto code = [&](const std::string& text) {
        const auto made = make_trace_predictor(text, trace);
        return made ? errc{} : made.error().code;
    };
    const auto heads = "heads:" + (folder / "heads").string(), history = "history:" + (folder / "history").string();
    CHECK(code(history) == errc{});
    CHECK(code(heads) == errc::invalid_argument);
    trace.hidden = 6;
    trace.sequences[0].hidden.assign(18, 0x3F80);
    CHECK(code(heads) == errc{});
    CHECK(code("heads") == errc::invalid_argument);
    CHECK(code("history:" + (folder / "heads").string()) == errc::invalid_argument);
    CHECK(code("heads:" + (folder / "history").string()) == errc::invalid_argument);
    CHECK(code("previous:x") == errc::invalid_argument);
    trace.experts = 5;
    CHECK(code(history) == errc::invalid_config);
    CHECK(code(heads) == errc::invalid_config);
}

TEST_CASE("experts.predictor names a source, and a file where one belongs") {
    CHECK(parse_predictor_choice("")->source == route_source::early);
    CHECK(parse_predictor_choice("gate")->source == route_source::early);
    CHECK(parse_predictor_choice("history")->source == route_source::history);
    CHECK(parse_predictor_choice("history:/a:b")->file == "/a:b");
    CHECK(parse_predictor_choice("heads:p")->source == route_source::heads);
    CHECK(parse_predictor_choice("previous")->source == route_source::previous);
    CHECK(parse_predictor_choice("prompt")->source == route_source::prompt);
    CHECK(parse_predictor_choice("drafted")->source == route_source::drafted);
    for (const auto* wrong : {"heads", "heads:", "history:", "gate:x", "p", "Gate", "previous:"})
        CHECK(parse_predictor_choice(wrong).error().code == errc::invalid_config);
}
