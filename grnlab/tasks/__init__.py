"""What a pretrained model does besides networks: cells embedded, from blocks of counts read one after the other."""

from grnlab.tasks._targets import few_shot
from grnlab.tasks.annotate import annotate
from grnlab.tasks.denoise import denoise
from grnlab.tasks.depth import embed_at_depth, enhance_depth, gene_contexts
from grnlab.tasks.differential import differential
from grnlab.tasks.drug_response import DrugResponse, DrugResponseConfig, fit_drug_response
from grnlab.tasks.embed import cell_embeddings, embed
from grnlab.tasks.fine_tune import FineTuneConfig, fine_tune
from grnlab.tasks.fine_tuned import FineTuned
from grnlab.tasks.gene_embeddings import gene_embeddings
from grnlab.tasks.generate import generate
from grnlab.tasks.importance import gene_importance
from grnlab.tasks.known import KnownCells, fit_known
from grnlab.tasks.perturb_drug import ResponseConfig, fit_responses
from grnlab.tasks.perturbation import PerturbationConfig, PerturbationModel, fit_perturbation
from grnlab.tasks.perturbation_tests import baseline_effects, perturbation_scores
from grnlab.tasks.predict_drug import draw_responses, nearest_drugs, predict_responses
from grnlab.tasks.response_tests import baseline_responses, drug_response_scores, split_responses
from grnlab.tasks.scores import classification_scores, regression_scores
from grnlab.tasks.sensitivity import label_sensitivity, sensitivity_scores

__all__ = [
    "DrugResponse",
    "DrugResponseConfig",
    "FineTuneConfig",
    "FineTuned",
    "KnownCells",
    "PerturbationConfig",
    "PerturbationModel",
    "ResponseConfig",
    "annotate",
    "baseline_effects",
    "baseline_responses",
    "cell_embeddings",
    "classification_scores",
    "denoise",
    "differential",
    "draw_responses",
    "drug_response_scores",
    "embed",
    "embed_at_depth",
    "enhance_depth",
    "few_shot",
    "fine_tune",
    "fit_drug_response",
    "fit_known",
    "fit_perturbation",
    "fit_responses",
    "gene_contexts",
    "gene_embeddings",
    "gene_importance",
    "generate",
    "label_sensitivity",
    "nearest_drugs",
    "perturbation_scores",
    "predict_responses",
    "regression_scores",
    "sensitivity_scores",
    "split_responses",
]
