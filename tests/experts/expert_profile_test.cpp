#include "core/experts/expert_profile.hpp"

#include "tests/experts/temporary_folder.hpp"

#include <doctest/doctest.h>
#include <fstream>

using namespace moira;

namespace {

expert_profile example() {
    return {"qwen3_moe, 2 layers", 2, 3, {0, 0.25F, 0, 1, 0, 0.5F}};
}

} // namespace

TEST_CASE("a profile is read as it was written, and names only experts that were used") {
    const temporary_folder folder;
    const auto path = folder.path() / "hot.profile";
    REQUIRE(write_expert_profile(example(), path));
    const auto read = read_expert_profile(path);
    REQUIRE(read);
    CHECK(read->model == example().model);
    CHECK(read->layers == 2);
    CHECK(read->experts == 3);
    CHECK(read->use_rates == example().use_rates);
    CHECK(print_expert_profile(*read) == "moira-expert-profile 1\nmodel qwen3_moe, 2 layers\nlayers 2 experts 3\n"
                                         "0 1 0.250000\n1 0 1.000000\n1 2 0.500000\n");
    // Nothing else lies there, and a second writing replaces the first.
    auto changed = example();
    changed.use_rates[0] = 0.75F;
    REQUIRE(write_expert_profile(changed, path));
    CHECK(read_expert_profile(path)->use_rates[0] == 0.75F);
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("profiles that are absent, elsewhere or damaged are told apart") {
    const temporary_folder folder;
    CHECK(read_expert_profile(folder.path() / "none").error().code == errc::not_found);
    CHECK(write_expert_profile(example(), folder.path() / "no" / "folder").error().code == errc::io_error);
    const std::string head = "moira-expert-profile 1\nmodel m\nlayers 2 experts 3\n";
    CHECK(parse_expert_profile(head, "p"));
    for (const std::string& text :
         {std::string(),
          std::string("moira-expert-profile 2\nmodel m\nlayers 2 experts 3\n"),
          std::string("moira-expert-profile 1\n"),
          std::string("moira-expert-profile 1\nmodel \nlayers 2 experts 3\n"),
          "moira-expert-profile 1\nmodel " + std::string(257, 'm') + "\nlayers 2 experts 3\n",
          std::string("moira-expert-profile 1\nmodel m\nlayers 0 experts 3\n"),
          std::string("moira-expert-profile 1\nmodel m\nlayers 2000000000 experts 2000000000\n"),
          std::string("moira-expert-profile 1\nmodel m\nlayers 99999999999 experts 3\n"),
          std::string("moira-expert-profile 1\nmodel m\nlayers 2 experts 3 x\n"),
          head + "2 0 0.5\n",
          head + "0 3 0.5\n",
          head + "-1 0 0.5\n",
          head + "0 0 0\n",
          head + "0 0 1.5\n",
          head + "0 0 nan\n",
          head + "0 0 0.5 1\n",
          head + "0 0\n",
          head + "\n",
          head + "0 1 0.5\n0 1 0.5\n",
          head + "0 1 0.5\n0 0 0.5\n"}) {
        CAPTURE(text);
        const auto read = parse_expert_profile(text, "p");
        REQUIRE_FALSE(read);
        CHECK(read.error().code == errc::corrupt_file);
    }
}
