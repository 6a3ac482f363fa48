/* The web form's page: elements in page order, what the instruction wants of each, the shop's phrase. Internal to
 * env/webform*.c. */
#ifndef PAL_ENV_WEBFORM_H
#define PAL_ENV_WEBFORM_H

#include "env/kit.h"

#define WEBFORM_LEVELS       4
#define WEBFORM_SECRET_LEVEL 4
#define WEBFORM_ELEMENTS     9
#define WEBFORM_PAGES        2
#define WEBFORM_LABELS       12
#define WEBFORM_LABEL_PHRASE 12 /* behind the others */
#define WEBFORM_VALUES       32
#define WEBFORM_USERS        16 /* where the eight first names begin among the values */
#define WEBFORM_CITIES       24
#define WEBFORM_SHOPS        4
#define WEBFORM_PHRASE       3  /* words of a secret phrase */
#define WEBFORM_PHRASE_WORDS 16 /* the first of the values: 16^3 = 4,096 phrases a shop */
#define WEBFORM_VALUE_BYTES  64

enum webform_kind {
    WEBFORM_KIND_INPUT,
    WEBFORM_KIND_BOX,
    WEBFORM_KIND_NEXT,
    WEBFORM_KIND_BACK,
    WEBFORM_KIND_SUBMIT,
    WEBFORM_KIND_COUNT
};

struct webform_element {
    uint8_t kind;
    uint8_t page;
    uint8_t label;                   /* of an input or box: index into webform_labels; of a button: of its words */
    bool on;                         /* of a box */
    bool wanted_on;                  /* of a box */
    char value[WEBFORM_VALUE_BYTES]; /* of an input; longer ones are cut */
    char wanted[WEBFORM_VALUE_BYTES];
};

struct webform_page {
    uint8_t count;
    uint8_t current; /* page shown */
    struct webform_element elements[WEBFORM_ELEMENTS];
    uint8_t shop;                   /* secret level only */
    uint8_t user, city, department; /* shown beside the shop: what makes its tasks many */
};

extern const char *const webform_labels[WEBFORM_LABELS + 1];
extern const char *const webform_values[WEBFORM_VALUES];
extern const char *const webform_shops[WEBFORM_SHOPS];
extern const char *const webform_submits[3];

/* The page of a task. episode_seed makes the phrase when `random_secret`. */
void webform_draw(const struct kit_task *task, bool random_secret, uint64_t episode_seed, struct webform_page *ret);
/* The element with this id (1..) on the current page, NULL when there is none. */
struct webform_element *webform_element(struct webform_page *page, size_t id);
size_t webform_id(const struct webform_page *page, const struct webform_element *element);

#endif
