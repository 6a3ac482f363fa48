#include "env/webform.h"

const char *const webform_labels[WEBFORM_LABELS + 1] = {"name", "city", "mail", "phone", "color", "size",  "date",
                                                        "team", "food", "song", "book",  "plan",  "phrase"};
const char *const webform_values[WEBFORM_VALUES] = {"red",  "blue",  "green", "gold",  "fox",   "owl",   "bear",  "wolf",
                                                    "moon", "star",  "rain",  "snow",  "stone", "river", "apple", "bread",
                                                    "anna", "boris", "clara", "david", "emma",  "frank", "greta", "henry",
                                                    "oslo", "rome",  "paris", "lima",  "cairo", "tokyo", "delhi", "quito"};
const char *const webform_shops[WEBFORM_SHOPS] = {"acorn", "bazaar", "corner", "dockside"};
const char *const webform_submits[3] = {"send", "save", "order"};

struct webform_element *webform_element(struct webform_page *page, size_t id)
{
    for (size_t i = 0; i < page->count; i++) {
        if (page->elements[i].page == page->current && --id == 0) return &page->elements[i];
    }
    return NULL;
}

size_t webform_id(const struct webform_page *page, const struct webform_element *element)
{
    size_t id = 0;
    for (const struct webform_element *e = page->elements; e <= element; e++) id += e->page == element->page;
    return id;
}

static struct webform_element *add(struct webform_page *page, enum webform_kind kind, uint8_t on_page, uint8_t label)
{
    BUG_IF(page->count == WEBFORM_ELEMENTS);
    struct webform_element *element = &page->elements[page->count++];
    *element = (struct webform_element){.kind = (uint8_t)kind, .page = on_page, .label = label};
    return element;
}

/* The phrase words are drawn from a number below 4,096; four shops get four different ones. */
static void put_phrase(struct webform_page *page, struct webform_element *element, bool random_secret, uint64_t episode_seed)
{
    uint64_t from = random_secret ? rng_mix(episode_seed, 0x736563726574) : 0x6b3u * (page->shop + 1u) + 0x2d7u;
    for (size_t i = 0; i < WEBFORM_PHRASE; i++) {
        kit_text(element->wanted, sizeof element->wanted, "%s%s", i ? " " : "", webform_values[from % WEBFORM_PHRASE_WORDS]);
        from /= WEBFORM_PHRASE_WORDS;
    }
}

/* `wanted` inputs with values, `spare` inputs to leave alone, `boxes`, cut into one or two pages. */
static void draw_form(const struct kit_task *task, struct rng *rng, struct webform_page *page)
{
    uint8_t labels[WEBFORM_LABELS], slots[WEBFORM_ELEMENTS];
    for (uint8_t i = 0; i < WEBFORM_LABELS; i++) labels[i] = i;
    kit_shuffle(rng, labels, WEBFORM_LABELS);
    uint32_t wanted = task->level == 1 ? 1 : 2 + rng_below(rng, 2);
    uint32_t spare = task->level == 3 ? 1 + rng_below(rng, 2) : 0;
    uint32_t boxes = task->level == 3 ? rng_below(rng, 2) : 0;
    uint8_t pages = task->level == 3 ? (uint8_t)(1 + rng_below(rng, 2)) : 1;
    uint32_t fields = wanted + spare + boxes;
    uint32_t first = pages == 1 ? fields : 1 + rng_below(rng, fields - 1); /* fields on the first page */
    uint8_t submit = (uint8_t)rng_below(rng, 3);
    bool button_first = task->level == 1 && rng_below(rng, 2) == 1;

    for (uint8_t i = 0; i < WEBFORM_ELEMENTS; i++) slots[i] = i;
    kit_shuffle(rng, slots, fields);
    if (button_first) (void)add(page, WEBFORM_KIND_SUBMIT, 0, submit);
    for (uint8_t i = 0; i < fields; i++) {
        bool box = slots[i] >= wanted + spare;
        uint8_t on_page = i < first ? 0 : 1;
        if (i == first) (void)add(page, WEBFORM_KIND_NEXT, 0, 0);
        struct webform_element *element = add(page, box ? WEBFORM_KIND_BOX : WEBFORM_KIND_INPUT, on_page, labels[slots[i]]);
        element->wanted_on = box && rng_below(rng, 2) == 1;
        if (slots[i] < wanted)
            kit_text(element->wanted, sizeof element->wanted, "%s", webform_values[rng_below(rng, WEBFORM_VALUES)]);
    }
    if (pages == 2) (void)add(page, WEBFORM_KIND_BACK, 1, 0);
    if (!button_first) (void)add(page, WEBFORM_KIND_SUBMIT, (uint8_t)(pages - 1), submit);
}

void webform_draw(const struct kit_task *task, bool random_secret, uint64_t episode_seed, struct webform_page *ret)
{
    struct rng rng;
    kit_rng(task, 2, &rng);
    *ret = (struct webform_page){0};
    if (task->level == WEBFORM_SECRET_LEVEL) {
        ret->shop = (uint8_t)rng_below(&rng, WEBFORM_SHOPS);
        ret->user = (uint8_t)(WEBFORM_USERS + rng_below(&rng, 8));
        ret->city = (uint8_t)(WEBFORM_CITIES + rng_below(&rng, 8));
        ret->department = (uint8_t)rng_below(&rng, WEBFORM_LABELS);
        put_phrase(ret, add(ret, WEBFORM_KIND_INPUT, 0, WEBFORM_LABEL_PHRASE), random_secret, episode_seed);
        (void)add(ret, WEBFORM_KIND_SUBMIT, 0, (uint8_t)rng_below(&rng, 3));
    } else {
        draw_form(task, &rng, ret);
    }
}
