#include "tools/moira/model_lookup.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <fstream>
#include <unistd.h>

using namespace moira;

namespace {

namespace fs = std::filesystem;

/// A folder with a few models, removed at the end.
struct model_tree {
    model_tree() : root(fs::temp_directory_path() / ("moira_lookup_" + std::to_string(::getpid()))) {
        fs::remove_all(root);
        model("own/alpha");
        model("own/moira-demo");
        model("bundled/moira-demo");
        model("bundled/beta");
        fs::create_directories(root / "own/empty");
        model("hub/models--org--gamma/snapshots/" + std::string(40, 'a'));
        model("hub/models--org--gamma/snapshots/" + std::string(40, 'b'));
        write("hub/models--org--gamma/refs/main", std::string(40, 'a'));
        model("hub/models--other--delta/snapshots/first");
        places = {{root / "own"}, {root / "missing", root / "bundled"}, root / "hub"};
    }
    ~model_tree() { fs::remove_all(root); }

    void write(const std::string& path, const std::string& text) const {
        fs::create_directories((root / path).parent_path());
        std::ofstream(root / path) << text;
    }
    void model(const std::string& path) const { write(path + "/config.json", "{}"); }

    fs::path root;
    model_places places;
};

} // namespace

TEST_CASE("a name is looked up in model.path, then among the bundled models, then in the cache") {
    const model_tree tree;
    CHECK(find_model("alpha", tree.places)->place == "model.path");
    CHECK(find_model("beta", tree.places)->place == "bundled");
    CHECK(find_model("org/gamma", tree.places)->place == "hugging face cache");
    CHECK(find_model("delta", tree.places)->folder.filename() == "first");
    // An own model hides a bundled one of the same name, and without a name the demo model is meant.
    CHECK(find_model("", tree.places)->folder == tree.root / "own/moira-demo");
}

TEST_CASE("the cache's main revision is taken, not the newest snapshot") {
    const model_tree tree;
    CHECK(find_model("org/gamma", tree.places)->folder.filename() == std::string(40, 'a'));
    tree.write("hub/models--org--gamma/refs/main", std::string(40, 'b'));
    CHECK(find_model("org/gamma", tree.places)->folder.filename() == std::string(40, 'b'));
    // A revision that leads out of the folder is not followed.
    tree.write("hub/models--org--gamma/refs/main", "../../../../own/alpha/../alpha/../alpha/");
    CHECK(find_model("org/gamma", tree.places)->folder.parent_path().filename() == "snapshots");
}

TEST_CASE("a folder is a model when it has a configuration or a tokenizer") {
    const model_tree tree;
    const auto found = find_model((tree.root / "bundled/beta").string(), tree.places);
    REQUIRE(found.has_value());
    CHECK(found->name == "beta");
    CHECK(found->place == "path");
    CHECK(find_model((tree.root / "own/empty").string(), tree.places).error().code == errc::not_found);
    tree.write("own/empty/tokenizer.json", "{}");
    CHECK(find_model("empty", tree.places).has_value());
}

TEST_CASE("GGUF files are known but not served") {
    const model_tree tree;
    CHECK(find_model("some/model.gguf", tree.places).error().code == errc::unsupported);
}

TEST_CASE("an unknown name is answered with near ones") {
    const model_tree tree;
    const auto missing = find_model("gama", tree.places);
    REQUIRE(!missing.has_value());
    CHECK(missing.error().code == errc::not_found);
    CHECK(missing.error().message.find("org/gamma") != std::string::npos);
    CHECK(find_model("entirely-different", tree.places).error().message.find("did you mean") == std::string::npos);
    CHECK(find_model(std::string(100'000, 'x'), tree.places).error().code == errc::not_found);
}

TEST_CASE("the list names every model once") {
    const model_tree tree;
    const auto models = list_models(tree.places);
    std::vector<std::string> names;
    for (const auto& model : models)
        names.push_back(model.name);
    CHECK(names == std::vector<std::string>{"alpha", "moira-demo", "beta", "org/gamma", "other/delta"});
}
