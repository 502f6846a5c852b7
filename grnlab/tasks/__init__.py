"""What a pretrained model does besides networks: cells embedded, from blocks of counts read one after the other."""

from grnlab.tasks._targets import few_shot
from grnlab.tasks.embed import cell_embeddings, embed
from grnlab.tasks.fine_tune import FineTuneConfig, fine_tune
from grnlab.tasks.fine_tuned import FineTuned
from grnlab.tasks.perturb_drug import ResponseConfig, draw_responses, fit_responses, nearest_drugs, predict_responses
from grnlab.tasks.scores import classification_scores, regression_scores

__all__ = [
    "FineTuneConfig",
    "FineTuned",
    "ResponseConfig",
    "cell_embeddings",
    "classification_scores",
    "draw_responses",
    "embed",
    "few_shot",
    "fine_tune",
    "fit_responses",
    "nearest_drugs",
    "predict_responses",
    "regression_scores",
]
