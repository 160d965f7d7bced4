// A bit that has changed in a packed file is found, named, and fails the rows that want its expert alone.
#include "core/execute/forced_routes.hpp"
#include "tests/pack/layout_plugins.hpp"

#include <doctest/doctest.h>
#include <fstream>

using namespace moira;
namespace fs = std::filesystem;

namespace {

constexpr std::int32_t damaged_layer = 2;

/// A pack of a small model, in which single bits can be turned round and back.
struct flipping_pack {
    layout_plugins plugins{"cpu_reference"};
    temporary_folder folder{quick_place()};
    fs::path path = folder.path() / "packed";

    explicit flipping_pack(bool native) {
        auto request = request_for(small_model("qwen3_moe"), path);
        if (native)
            request.layout = plugins.host.get();
        pack_well(request);
    }

    /// The file's name.
    std::string flip(const std::string& tensor, std::uint64_t byte) const {
        const auto model = checkpoint::open(path);
        REQUIRE_MESSAGE(model, model.error().message);
        const auto* place = model->find(tensor);
        REQUIRE_MESSAGE(place, tensor);
        REQUIRE(byte < place->bytes);
        const auto file = model->files()[place->file];
        std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
        const auto at = static_cast<std::streamoff>(place->offset + byte);
        stream.seekg(at);
        const int old = stream.get();
        stream.seekp(at);
        stream.put(static_cast<char>(old ^ 4));
        REQUIRE(stream.flush());
        return file.filename().string();
    }
};

/// One token for each of four rows: row 2 wants the last experts of every layer, the others the first ones.
route_trace two_kinds_of_rows(const model_shape& shape) {
    const auto experts = static_cast<std::uint32_t>(shape.moe.experts),
               top_k = static_cast<std::uint32_t>(shape.moe.top_k);
    REQUIRE(experts >= 2 * top_k);
    route_trace trace{.layers = static_cast<std::uint32_t>(shape.layers), .experts = experts, .top_k = top_k};
    for (std::uint32_t layer = 0; layer < trace.layers; ++layer)
        trace.layer_numbers.push_back(static_cast<std::uint16_t>(layer));
    for (const bool other : {false, false, true, false}) {
        route_sequence sequence{.tokens = 1};
        for (std::uint32_t layer = 0; layer < trace.layers; ++layer)
            for (std::uint32_t rank = 0; rank < top_k; ++rank) {
                sequence.ids.push_back(static_cast<std::uint16_t>(other ? experts - 1 - rank : rank));
                sequence.weights.push_back(1.0F / static_cast<float>(top_k));
            }
        trace.sequences.push_back(std::move(sequence));
    }
    return trace;
}

} // namespace

TEST_CASE("a bit flip in a packed file fails the rows that want the expert, names it, and ends when it is repaired") {
    for (const bool native : {false, true})
        for (const bool direct : {false, true}) {
            CAPTURE(native);
            CAPTURE(direct);
            const flipping_pack pack(native);
            test_engine::wanted how;
            how.options.experts_budget_automatic = false;
            how.options.experts_budget_share = 0.3;
            how.options.io = direct ? expert_io::direct : expert_io::buffered;
            const auto opened = test_engine::required(pack.path, how);
            engine& model = *opened.model;
            const auto trace = two_kinds_of_rows(model.shape());
            auto routes = forced_routes::create(trace, model.shape(), 4, nullptr);
            REQUIRE_MESSAGE(routes, routes.error().message);
            model.override_routes(&*routes);
            const auto ids = some_tokens(4);
            const auto expected = logits_of(model, ids, 4), of_two = logits_of(model, {ids[0], ids[1]}, 2);
            REQUIRE(expected);
            REQUIRE(of_two);
            // Small enough a budget that what the first rows want has driven the others' experts out.
            const auto damaged = model.shape().moe.experts - 1;
            const std::string expert =
                "model.layers." + std::to_string(damaged_layer) + ".mlp.experts." + std::to_string(damaged);
            const std::string tensor = expert + (native ? ".packed" : ".up_proj.weight");
            std::vector<std::uint8_t> present(static_cast<std::size_t>(model.shape().moe.experts));
            for (int round = 0; round < 20; ++round) {
                REQUIRE(logits_of(model, {ids[0], ids[1]}, 2));
                model.experts().mark_residents(damaged_layer, present);
            }
            REQUIRE(present[static_cast<std::size_t>(damaged)] == 0);

            const auto file = pack.flip(tensor, 7);
            const auto outcome = model.run_step(plan_prompt_rows(ids, 0, 4, model.limits()));
            REQUIRE(outcome.failure);
            CHECK(outcome.failure->code == errc::corrupt_file);
            for (const std::string& part :
                 {"expert " + std::to_string(damaged) + " of layer " + std::to_string(damaged_layer), expert, file})
                CHECK_MESSAGE(outcome.failure->message.find(part) != std::string::npos, outcome.failure->message);
            CHECK(outcome.failed_rows == std::vector<std::int32_t>{2});
            CHECK(outcome.samples.empty());
            const auto others = logits_of(model, {ids[0], ids[1]}, 2);
            REQUIRE_MESSAGE(others, others.error().message);
            CHECK(same_bits(*others, *of_two));

            pack.flip(tensor, 7);
            const auto repaired = logits_of(model, ids, 4);
            REQUIRE_MESSAGE(repaired, repaired.error().message);
            CHECK(same_bits(*repaired, *expected));
            model.override_routes(nullptr);
        }
}
